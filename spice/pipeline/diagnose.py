"""``spice diagnose RUN``: what the theory says of a finished selection, in numbers.

Nothing is read off a model: gradients have to be in the cache still. ``diagnosis.json`` in the run
folder holds what is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from spice.data.row_table import ids_of
from spice.errors import InputError
from spice.library.diagnosis import diversity, theory
from spice.pipeline.run import begin
from spice.pipeline.run_folder import RESULTS
from spice.records import chosen_ids
from spice.reporting.card import overlap
from spice.selectors.base import GradientSelector
from spice.signals.keyed import GRADIENTS
from spice.storage.files import read_json, write_json

if TYPE_CHECKING:
    from spice.pipeline.run import Run
    from spice.submodular.kernel import Rows

FILE = "diagnosis.json"


def examine(folder: Path, others: Sequence[Path]) -> dict[str, Any]:
    """Facts of one finished run, with the overlaps of its picks with those of ``others``.

    Raises:
        InputError: the folder holds no finished run, or one of no greedy over gradients, or these
            are no longer in the cache.
    """
    state = _begun(folder)
    selection = read_json(folder / "selection.json")
    picks = np.array(selection["indices"], dtype=np.int64)
    facts: dict[str, Any] = {
        "selector": selection["selector"],
        "k": len(picks),
        "n": selection["n"],
        "information": selection["information"],
    }
    gradients = np.asarray(_seen(state, folder)[:])
    alpha = selection.get("alpha") or 1.0
    seed, names = state.config.seed, ids_of(state.pool.rows)
    found = theory(gradients, picks, alpha, seed)
    facts |= {"alpha": alpha, **asdict(found), "guarantee": found.guarantee}
    facts["diversity"] = asdict(diversity(gradients, picks, seed, names))
    facts["overlaps"] = [
        {"with": str(other), **_shares(selection["ids"], chosen_ids(str(other), "diagnose"))}
        for other in others
    ]
    write_json(folder / FILE, facts)
    return facts


def _begun(folder: Path) -> Run:
    for name in ("config.yaml", "selection.json", RESULTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no finished run, it has no {name}")
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    return begin(config, folder)


def _seen(state: Run, folder: Path) -> Rows:
    """Gradients n × d as the selector saw them: at its scale, and by its weights."""
    keyed, selector = state.keyed, state.parts.selector
    if keyed is None or not isinstance(selector, GradientSelector) or GRADIENTS not in keyed.needs:
        raise InputError(f"{folder}: its selector is no greedy over gradients to be diagnosed")
    if missing := [name for name, key in keyed.keys.items() if not state.stages.has(name, key)]:
        raise InputError(
            f"{folder}: its {' and '.join(missing)} are not in {state.cache}, or another version's "
            "are; run it again in another folder, and diagnose that one"
        )
    signals = keyed.read()
    weights = signals["reliability"]["weight"] if "reliability" in signals else None
    return selector.seen(signals[GRADIENTS], range(len(state.pool.rows)), weights)


def _shares(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, float]:
    found = overlap("", ours, theirs)
    return {"jaccard": found.jaccard, "of_ours": found.of_ours, "of_theirs": found.of_theirs}


def lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is told of a run."""
    yield (
        "selection",
        (
            f"{facts['selector']}: {facts['k']:,} of {facts['n']:,} rows, "
            f"F(S) = {facts['information']:.3f} nats, α = {facts['alpha']:g}"
        ),
    )
    paper = facts["violations_of_the_paper"]
    theirs = f"{paper} violate it" if paper is not None else "its condition does not hold here"
    yield (
        "taken",
        (
            f"|ε| = {facts['mean_taken']:.3f} nats on average of {facts['candidates']} candidates; "
            f"Δ = base + ε to {facts['decomposition_error']:.0e}"
        ),
    )
    yield (
        "bounds",
        (f"(1 + α‖F‖)u: {facts['violations']} candidates violate it; the paper's: {theirs}"),
    )
    yield (
        "curvature",
        (
            f"c at most {facts['curvature']:.3f} among these rows: without a penalty, a greedy "
            f"among them has {facts['guarantee']:.3f} of the best at least"
        ),
    )
    for name, told in (("novel_sum", "NovelSum"), ("ldd", "LDD")):
        sides = facts["diversity"][name]
        yield (
            "diversity",
            (
                f"{told} {sides['picks']:.3f} of the picks' gradients, {sides['uniform']:.3f} of a "
                "uniform draw's"
            ),
        )
    for other in facts["overlaps"]:
        yield "overlap", f"{other['with']}: Jaccard {other['jaccard']:.2f}"
