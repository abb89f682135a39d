"""``spice diagnose RUN``: what the theory says of a finished selection, in numbers.

Nothing is read off a model: gradients have to be in the cache still. ``diagnosis.json`` in the run
folder holds what is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from spice.data.row_table import ids_of
from spice.errors import InputError
from spice.gradients.agreement import directions
from spice.pipeline.run import begin
from spice.pipeline.run_folder import RESULTS
from spice.records import chosen_ids
from spice.reporting.card import overlap
from spice.selectors.base import GradientSelector
from spice.selectors.random_subset import RandomSubset
from spice.signals.keyed import GRADIENTS
from spice.storage.files import read_json, write_json
from spice.submodular.certificate import curvature
from spice.submodular.diversity import log_determinant_distance, novel_sum, unit
from spice.submodular.perturbation import perturbation

if TYPE_CHECKING:
    from spice.pipeline.run import Run
    from spice.submodular.kernel import Rows

FILE = "diagnosis.json"
PICKS = 256  # the first so many, whose inverse is made
CANDIDATES = 512  # rows beside them, drawn from the seed
SLACK = 1e-9  # of a bound, for rounding


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
    facts |= {"alpha": alpha, **_theory(gradients, picks, alpha, state.config.seed)}
    facts["diversity"] = _diversity(gradients, picks, state)
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


def _theory(gradients: np.ndarray, picks: np.ndarray, alpha: float, seed: int) -> dict[str, Any]:
    """Decomposition, bounds and curvature of some candidates beside the first picks."""
    first = picks[:PICKS]
    rest = np.setdiff1d(np.flatnonzero(directions(gradients)), picks)
    drawn = np.random.default_rng(seed).permutation(rest)[:CANDIDATES]
    G = gradients[np.concatenate([first, drawn])].astype(np.float64)
    found = perturbation(G, alpha, range(len(first)))
    taken = np.abs(found.epsilon)

    def violations(bound: np.ndarray) -> int:
        return int(np.count_nonzero(taken > bound * (1 + SLACK) + SLACK))

    return {
        "candidates": len(drawn),
        "decomposition_error": found.error,
        "mean_taken": float(taken.mean()) if len(taken) else 0.0,
        "violations": violations(found.bound),
        "violations_of_the_paper": (
            None if found.published is None else violations(found.published)
        ),
        "curvature": curvature(G, np.square(G).sum(axis=1), alpha),
    }


def _diversity(gradients: np.ndarray, picks: np.ndarray, state: Run) -> dict[str, Any]:
    """Of the picks' gradients at unit length, beside a uniform draw of as many that have one.

    A row without direction would be as far from all others as rows can be.
    """
    ids = ids_of(state.pool.rows)
    usable = np.flatnonzero(directions(gradients)).tolist()
    by_id = sorted(usable, key=lambda row: ids[row])
    drawn = RandomSubset.uniform(by_id, len(picks), np.random.default_rng(state.config.seed))
    sides = {"picks": picks, "uniform": np.array(drawn, dtype=np.int64)}
    rows = {side: unit(gradients[which]) for side, which in sides.items()}
    return {
        "novel_sum": {side: novel_sum(these) for side, these in rows.items()},
        "ldd": {side: log_determinant_distance(these) for side, these in rows.items()},
    }


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
    yield "curvature", f"c at most {facts['curvature']:.3f} among these rows"
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
