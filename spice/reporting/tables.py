"""Run folders to one table: selectors side by side, with their uncertainty."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spice.errors import InputError
from spice.messages import in_markdown, say, shown
from spice.reporting.differences import Items, difference, holm, items_of, verdict

log = logging.getLogger("spice")


@dataclass(frozen=True)
class Cell:
    """A mean and its standard error, both as shares; None where there is nothing to say."""

    value: float | None
    error: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "skipped"
        error = f" ± {100 * self.error:.1f}" if self.error is not None else ""
        return f"{100 * self.value:.1f}{error}"


@dataclass(frozen=True)
class Line:
    """One setting: its varied options, its runs' seeds, a cell per benchmark, the average.

    ``items`` are what the runs have left of their answers, by seed.
    """

    label: dict[str, str]
    seeds: list[int]
    scores: dict[str, Cell]
    average: Cell
    items: dict[int, Items] = field(default_factory=dict)


def collect(folder: Path) -> list[dict[str, Any]]:
    """All ``results.json`` below a folder, in the order of their paths.

    Raises:
        InputError: one of them is of another version, or no results at all.
    """
    return [_read(path) for path in sorted(folder.rglob("results.json"), key=natural)]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        missing = sorted({"selector", "budget", "seed", "k", "scores", "average"} - set(found))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: no results of a run ({error}); delete it") from error
    if missing:
        raise InputError(
            f"{path}: has no {', '.join(missing)}; another version of spice wrote it, or none"
        )
    return {**found, "folder": str(path.parent)}


def compare(results: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Group runs that differ in nothing but the seed.

    One seed: the standard error is over the benchmark's items. Several: over the seeds. Of runs
    with equal seeds the last counts: a repetition is no further evidence.
    """
    groups: dict[tuple, dict[int, Mapping[str, Any]]] = {}
    for result in results:
        key = tuple(sorted(label(result).items()))
        groups.setdefault(key, {})[result["seed"]] = result
    settings = [[runs[seed] for seed in sorted(runs)] for runs in groups.values()]
    shown = varied([label(runs[0]) for runs in settings])
    return [_line(runs, shown) for runs in settings]


def _line(runs: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> Line:
    named = {name: value for name, value in label(runs[0]).items() if name in shown}
    picks = sorted({run["k"] for run in runs})
    named["k"] = "–".join(str(k) for k in dict.fromkeys((picks[0], picks[-1])))
    names = list(runs[0]["scores"])
    scores = {name: _pool([run["scores"][name] for run in runs]) for name in names}
    average = _pool([_average(run) for run in runs])
    items = {run["seed"]: items_of(Path(run["folder"]), run["scores"]) for run in runs}
    return Line(named, [run["seed"] for run in runs], scores, average, items)


def label(result: Mapping[str, Any]) -> dict[str, str]:
    """What tells a setting: selector and budget, then whatever else was overridden."""
    named = {"selector": result["selector"], "budget": str(result["budget"])}
    for override in result.get("overrides", []):
        name, _, value = override.partition("=")
        if name not in {"seed", "selector", "budget"}:
            named[name] = value
    return named


def varied(labels: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of what differs between settings; selector and budget in any case."""
    names = dict.fromkeys(name for label in labels for name in label)
    always = {"selector", "budget"}
    return [n for n in names if n in always or len({label.get(n) for label in labels}) > 1]


def _pool(scores: Sequence[Mapping[str, Any]]) -> Cell:
    values = [score["value"] for score in scores if score["value"] is not None]
    if not values:
        return Cell(None, None)
    if len(scores) == 1:
        return Cell(values[0], scores[0].get("stderr"))
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)
    return Cell(mean, math.sqrt(variance / len(values)) if len(values) > 1 else None)


def _average(result: Mapping[str, Any]) -> dict[str, Any]:
    errors = [s["stderr"] for s in result["scores"].values() if s["value"] is not None]
    known = errors and all(error is not None for error in errors)
    error = math.sqrt(math.fsum(e * e for e in errors)) / len(errors) if known else None
    return {"value": result["average"], "stderr": error}


#: the columns between a setting's options and its benchmarks: a new one is an entry here
COLUMNS: dict[str, Callable[[Line], str]] = {
    "seeds": lambda line: str(len(line.seeds)),
    "average": lambda line: str(line.average),
}


def header(lines: Sequence[Line]) -> list[str]:
    """The columns: what varies, the seeds' count, the average, the benchmarks."""
    options = dict.fromkeys(name for line in lines for name in line.label)
    benchmarks = dict.fromkeys(name for line in lines for name in line.scores)
    return [*options, *COLUMNS, *benchmarks]


def cells(line: Line, columns: Sequence[str]) -> list[str]:
    """One line's entries for the given columns."""
    known = {**line.label, **{name: told(line) for name, told in COLUMNS.items()}}
    known |= {name: str(cell) for name, cell in line.scores.items()}
    return [known.get(name, "") for name in columns]


def markdown(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    columns = header(lines)
    rows = [columns, ["---"] * len(columns), *(cells(line, columns) for line in lines)]
    return "\n".join(f"| {' | '.join(map(in_markdown, row))} |" for row in rows) + "\n"


def as_csv(lines: Sequence[Line]) -> str:
    """The table as CSV, values and standard errors in columns of their own."""
    columns = header(lines)
    first = columns.index("average")
    names = [*columns[:first], *(n + s for n in columns[first:] for s in ("", "_stderr"))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        numbers = {"average": line.average, **line.scores}
        pairs = [numbers.get(name, Cell(None, None)) for name in columns[first:]]
        writer.writerow(
            [*cells(line, columns[:first]), *(x for p in pairs for x in (p.value, p.error))]
        )
    return text.getvalue()


def text_table(lines: Sequence[Line], title: str) -> str:
    """The table for a terminal: a column per setting, or a row where that would be wider."""
    columns = header(lines)
    rows = [cells(line, columns) for line in lines]
    grid = [columns, *rows] if len(lines) > len(columns) else list(zip(columns, *rows, strict=True))
    return drawn(grid, title)


def drawn(grid: Sequence[Sequence[str]], title: str) -> str:
    """A grid of texts for a terminal, its first row on top."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(grid[0]):
        table.add_column(Text(shown(name)), justify="right" if i else "left")
    for row in grid[1:]:
        table.add_row(*(Text(shown(cell)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=max(80, 18 * len(grid[0]))).print(table)
    return out.getvalue()


class Verdict(NamedTuple):
    """What a comparison ends in, and which of the lines were compared."""

    sentence: str
    line: int
    draw: int


def verdicts(lines: Sequence[Line]) -> list[Verdict]:
    """A sentence for each selector: above or below a uniform draw of as many rows, or neither.

    Of runs that left their answers, and with all of them counted (:func:`holm`); none where there
    is no such draw or nothing beside it.
    """
    draws = [i for i, line in enumerate(lines) if line.label["selector"] == "random"]
    pairs = [
        (i, draw)
        for draw in draws
        for i, line in enumerate(lines)
        if i != draw and _beside(line) == _beside(lines[draw]) and _comparable(line, lines[draw])
    ]
    found = [asdict(difference(lines[i].items, lines[draw].items)) for i, draw in pairs]
    corrected = holm({str(i): one["p"] for i, one in enumerate(found)})
    labels = [lines[i].label for i, _ in pairs]
    told = [name for name in varied(labels) if name != "k"]
    told = [name for name in told if len({label.get(name) for label in labels}) > 1]
    return [
        Verdict(verdict(_named(lines[i], told), "a uniform draw", one, corrected[str(number)],
                        len(found)), i, draw)
        for number, ((i, draw), one) in enumerate(zip(pairs, found, strict=True))
    ]  # fmt: skip


def _comparable(line: Line, draw: Line) -> bool:
    """Whether both have answers to the same benchmarks, with a seed in common."""
    shared = line.items.keys() & draw.items.keys()
    return any(line.items[seed] and line.items[seed].keys() == draw.items[seed].keys()
               for seed in shared)  # fmt: skip


def _named(line: Line, told: Sequence[str]) -> str:
    """The selector, with what else tells it from the others."""
    more = [f"{n}={line.label[n]}" for n in told if n != "selector" and n in line.label]
    return " ".join([line.label["selector"], *more])


def _beside(line: Line) -> dict[str, str]:
    """What tells settings apart, the selector itself left aside."""
    return {name: value for name, value in line.label.items() if name != "selector"}


def show(lines: Sequence[Line], folder: Path) -> None:
    """Print a comparison and write it beside its runs."""
    (folder / "table.md").write_text(markdown(lines), encoding="utf-8")
    (folder / "table.csv").write_text(as_csv(lines), encoding="utf-8")
    several = any(len(line.seeds) > 1 for line in lines)
    error = "over seeds" if several else "over benchmark items, one seed"
    log.info("\n%s", text_table(lines, f"Scores in %, ± one standard error ({error})"))
    for sentence, *_ in verdicts(lines):
        say("verdict", sentence)
    log.info("table    %s", folder / "table.md")
    scored = [line for line in lines if line.average.value is not None]
    if scored:
        from spice.reporting.figures import comparison  # keeps matplotlib out of start-up

        labels = [" ".join(v for n, v in line.label.items() if n != "k") for line in scored]
        values = [line.average.value or 0.0 for line in scored]
        errors = [line.average.error or 0.0 for line in scored]  # no bar where it is unknown
        log.info("figure   %s", comparison(labels, values, errors, folder / "comparison.png"))


def natural(path: Path) -> list[tuple[int, str]]:
    """A key by which job 2 comes before job 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]
