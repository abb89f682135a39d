"""The selection card: what was chosen and why, for a reader; card.md and card.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from spice.data.row_table import ids_of
from spice.messages import in_markdown, shown
from spice.records import Row, chosen_ids
from spice.reporting.lines import partitions_lines
from spice.reporting.trust import trust_line
from spice.selectors.random_subset import RandomSubset

SHOWN = 5  # picks from either end
LONGEST = 600  # characters of a text that are shown


@dataclass(frozen=True)
class Overlap:
    """Shares of two selections: |A∩B|/|A∪B|, |A∩B|/|A| and |A∩B|/|B|."""

    name: str
    k: int
    jaccard: float
    of_ours: float
    of_theirs: float


def overlap(name: str, ours: Sequence[str], theirs: Sequence[str]) -> Overlap:
    """How far two selections agree; between empty ones nothing is shared."""
    a, b = set(ours), set(theirs)
    both = len(a & b)
    return Overlap(
        name, len(b), both / max(len(a | b), 1), both / max(len(a), 1), both / max(len(b), 1)
    )


def other_selections(folders: Sequence[str]) -> dict[str, list[str]]:
    """The ids chosen in other run folders, by the folder's name as it was given.

    Raises:
        InputError: a folder holds no selection.
    """
    return {str(folder): chosen_ids(str(folder), "card.compare") for folder in folders}


def write_card(
    folder: Path,
    rows: Sequence[Row],
    lengths: np.ndarray,
    selection: Mapping[str, Any],
    report: Mapping[str, Any],
    others: Mapping[str, Sequence[str]],
    seed: int,
    trusted: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> None:
    """Write both cards; ``lengths`` n are supervised tokens, zeros where no model was read.

    ``trusted`` is what :func:`spice.reporting.trust.examine` found, where rows were weighed;
    ``reading`` is how the pool was read, as :meth:`spice.data.pool.Pool.report` has it, and under
    ``audits`` what each model's template and context left of it.
    """
    sides = {"first": picks(selection, rows, lengths, range(selection["k"])[:SHOWN])}
    if selection["k"] > 2 * SHOWN:
        sides["last"] = picks(selection, rows, lengths, range(selection["k"])[-SHOWN:])
    content = {
        "selection": selection,
        "report": report,
        "sides": sides,
        "lengths": quantiles(lengths, selection["indices"]),
        "overlaps": overlaps(selection, rows, others, seed),
        "rounds": list(partitions_lines(selection)),
        "trust": _trust(trusted),
        "reading": {"skipped": [], "changed": {}, "unread": [], "audits": {}, **(reading or {})},
    }
    environment = _environment()
    for name in ("card.md", "card.html"):
        (folder / name).write_text(
            environment.get_template(f"{name}.j2").render(content), encoding="utf-8"
        )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spice.reporting", "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.0f} %",
        "cut": _cut,
        "fence": _fence,
        "text": in_markdown,
    }
    return environment


def _trust(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the card tells of reliability: the line, and only the first of the least trusted."""
    if facts is None:
        return None
    return {**facts, "line": trust_line(facts), "least_trusted": facts["least_trusted"][:SHOWN]}


def picks(
    selection: Mapping[str, Any], rows: Sequence[Row], lengths: np.ndarray, which: range
) -> list[dict[str, Any]]:
    """Some picks, each with its row, the method's own score and, if it has one, its conflict.

    ``lengths`` n are supervised tokens.
    """
    k = selection["k"]
    scores = selection["scores"] or [None] * k
    conflicts = selection["conflicts"] or [None] * k
    return [
        {
            "number": place + 1,
            "row": rows[index := selection["indices"][place]],
            "tokens": int(lengths[index]),
            "score": scores[place],
            "conflict": conflicts[place],
        }
        for place in which
    ]


def quantiles(lengths: np.ndarray, indices: Sequence[int]) -> dict[str, dict[str, int]] | None:
    """Quartiles of the responses' tokens, ``lengths`` n, in the pool and among the picks."""
    if not lengths.any() or not len(indices):
        return None
    names = {"shortest": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "longest": 1}
    sides = {"pool": lengths, "picked": lengths[list(indices)]}
    return {
        side: {name: round(float(np.quantile(values, q))) for name, q in names.items()}
        for side, values in sides.items()
    }


def overlaps(
    selection: Mapping[str, Any],
    rows: Sequence[Row],
    others: Mapping[str, Sequence[str]],
    seed: int,
) -> list[Overlap]:
    """Beside the same without penalty (where there is one), a uniform draw, and other runs."""
    ids = ids_of(rows)
    found = []
    others_of_ours = {
        "the same with λ = 0": selection["without_penalty"],
        "the same with all rows trusted alike": selection["without_weights"],
    }
    for name, chosen in others_of_ours.items():
        if chosen is not None:
            found.append(overlap(name, selection["ids"], [ids[i] for i in chosen]))
    by_id = sorted(range(len(ids)), key=lambda row: ids[row])
    drawn = RandomSubset.uniform(by_id, selection["k"], np.random.default_rng(seed))
    found.append(overlap("a uniform draw", selection["ids"], [ids[i] for i in drawn]))
    found += [overlap(name, selection["ids"], theirs) for name, theirs in others.items()]
    return found


def _shown(value: Any) -> Any:
    """Whatever a card prints; line breaks of texts stay."""
    return shown(value, lines=True) if isinstance(value, str) else value


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _fence(text: str) -> str:
    """A Markdown fence that the text does not close."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text}\n{ticks}"
