"""What the theory says of a selection, in numbers, and how diverse it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from spice.errors import InputError
from spice.gradients.agreement import directions
from spice.library import arrays
from spice.library.selection import Options, spice_of
from spice.records import Selection
from spice.selectors.random_subset import RandomSubset
from spice.selectors.spice import Spice
from spice.submodular.certificate import curvature
from spice.submodular.diversity import log_determinant_distance, novel_sum, unit
from spice.submodular.perturbation import perturbation

PICKS = 256  # the first so many, whose inverse is made
CANDIDATES = 512  # rows beside them, drawn from the seed
SLACK = 1e-9  # of a bound, for rounding
SAME = 1e-3  # relative, of Δ(∅) in another precision


@dataclass(frozen=True)
class Theory:
    """Of the first picks and some ``candidates`` beside them (arXiv 2601.23155, section 3).

    Gains split into base + ε, up to ``decomposition_error`` (nats). ``mean_taken`` is the mean |ε|
    (nats), what the picks take from a candidate's gain. ``violations`` counts candidates beyond the
    bound that always holds, ``violations_of_the_paper`` those beyond the paper's, None where its
    condition does not hold (:mod:`spice.submodular.perturbation`). ``curvature`` is c, or above it,
    among these rows.
    """

    candidates: int
    decomposition_error: float
    mean_taken: float
    violations: int
    violations_of_the_paper: int | None
    curvature: float

    @property
    def guarantee(self) -> float:
        """(1 − e^{−c})/c: the share of the best F that a greedy among these rows has for λ = 0."""
        return -math.expm1(-self.curvature) / self.curvature if self.curvature > 0 else 1.0


@dataclass(frozen=True)
class Beside:
    """A measure of the picks, and of as many rows drawn uniformly."""

    picks: float
    uniform: float


@dataclass(frozen=True)
class Diversity:
    """Of gradients at unit length (:mod:`spice.submodular.diversity`).

    A larger ``novel_sum`` is more diverse, a smaller ``ldd`` (nats a row) is.
    """

    novel_sum: Beside
    ldd: Beside


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` finds of k picks out of n rows.

    ``information`` is F(S) in nats, ``guaranteed`` the share of the best k rows' F that it is at
    least, by the selection's certificate; None where it has none.
    """

    n: int
    k: int
    information: float
    alpha: float
    guaranteed: float | None
    theory: Theory
    diversity: Diversity


def diagnose(
    picked: Selection,
    gradients: Any,
    *,
    weights: Any = None,
    seed: int = 0,
    **options: Unpack[Options],
) -> Diagnosis:
    """What ``spice diagnose`` tells of a run, of a selection by :func:`spice.select`.

    Give it what :func:`spice.select` was given, with ``weights`` and ``options``, so that it sees
    the gradients as they were chosen from.

    Args:
        picked: the selection.
        gradients: n × d, numpy or torch, any float type; they are read whole.
        weights: n numbers ≥ 0, if it was weighed.
        seed: draws the candidates, and the uniform rows beside the picks.
        options: those of :func:`spice.select`.

    Returns:
        A diagnosis with ``information`` (nats), ``guaranteed``, ``theory`` and ``diversity``.

    Raises:
        InputError: an option outside its range, gradients that are not n × d, or not those that
            were picked from.
        TypeError: an option that there is not.
    """
    seen = _as_seen(picked, arrays.matrix(gradients), weights, spice_of(options))
    picks, certified = np.array(picked.indices, dtype=np.int64), picked.certificate
    information, alpha = picked.information or 0.0, picked.alpha or 1.0  # there, or it is refused
    return Diagnosis(
        n=picked.n,
        k=picked.k,
        information=information,
        alpha=alpha,
        guaranteed=certified["guaranteed_fraction"] if certified else None,
        theory=theory(seen, picks, alpha, seed),
        diversity=diversity(seen, picks, seed),
    )


def _as_seen(picked: Selection, matrix: np.ndarray, weights: Any, selector: Spice) -> np.ndarray:
    """The n × d gradients as they were chosen from."""
    n = len(matrix)
    if n != picked.n:
        raise InputError(f"gradients: {n} rows, the selection is of {picked.n}")
    if picked.information is None or picked.alpha is None or picked.bases is None:
        raise InputError("picked: no selection by gradients, there is nothing to diagnose")
    trusted = None if weights is None else arrays.numbers(weights, n)
    seen = np.asarray(selector.seen(matrix, range(n), trusted)[:])
    if selector.fisher == "exact" and not _had(picked, seen[picked.indices]):
        raise InputError(
            "gradients: not as they were picked from; give those, with the same weights, scale and "
            "clip_quantile"
        )
    return seen


def _had(picked: Selection, chosen: np.ndarray) -> bool:
    """Whether k × d gradients have the Δ(∅) that the picks had."""
    squares = np.square(chosen, dtype=np.float64).sum(axis=1)
    return np.allclose(np.log1p((picked.alpha or 0.0) * squares), picked.bases or [], rtol=SAME)


def theory(gradients: np.ndarray, picks: np.ndarray, alpha: float, seed: int) -> Theory:
    """Decomposition, bounds and curvature of some candidates beside the first ``picks`` (k).

    ``gradients`` are n × d.
    """
    first = picks[:PICKS]
    rest = np.setdiff1d(np.flatnonzero(directions(gradients)), picks)
    drawn = np.random.default_rng(seed).permutation(rest)[:CANDIDATES]
    G = gradients[np.concatenate([first, drawn])].astype(np.float64)
    found = perturbation(G, alpha, range(len(first)))
    taken = np.abs(found.epsilon)

    def violations(bound: np.ndarray) -> int:
        return int(np.count_nonzero(taken > bound * (1 + SLACK) + SLACK))

    return Theory(
        candidates=len(drawn),
        decomposition_error=found.error,
        mean_taken=float(taken.mean()) if len(taken) else 0.0,
        violations=violations(found.bound),
        violations_of_the_paper=None if found.published is None else violations(found.published),
        curvature=curvature(G, np.square(G).sum(axis=1), alpha),
    )


def diversity(
    gradients: np.ndarray, picks: np.ndarray, seed: int, names: Sequence[str | int] | None = None
) -> Diversity:
    """Of the ``picks`` (k) among n × d gradients, beside a uniform draw of as many that have one.

    A row without direction would be as far from all others as rows can be. Rows are drawn in the
    order of their ``names`` (n), so that the pool's does not matter; without names in their own.
    """
    usable = np.flatnonzero(directions(gradients)).tolist()
    ordered = sorted(usable, key=lambda row: names[row]) if names is not None else usable
    drawn = RandomSubset.uniform(ordered, len(picks), np.random.default_rng(seed))
    mine, theirs = (unit(gradients[rows]) for rows in (picks, np.array(drawn, dtype=np.int64)))
    return Diversity(
        Beside(novel_sum(mine), novel_sum(theirs)),
        Beside(log_determinant_distance(mine), log_determinant_distance(theirs)),
    )
