"""RDS+: each target example in turn takes the row that is most like it (arXiv 2503.01807)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice

import numpy as np

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.signals.base import Signal
from spice.signals.embeddings import Embeddings, TargetEmbeddings, TargetSources
from spice.values import component

AT_ONCE = 2**24  # cosines held in memory: 128 MiB
DIGITS = 12  # copies of a row tie, although blocked products differ in their last bits


@component
class Rds(Selector):
    """Round robin over the targets by the cosines of states pooled with weights 2i / t(t + 1).

    Each target takes, when it is its turn, its nearest row that is not taken yet. Turns go round
    the (sub)tasks, each of which sends its examples one after the other and begins again behind
    its last, so that each has the same say however many examples it has. With one task that is the
    published round robin; for several the paper ranks the rows of each task by their best cosine
    and goes round those lists. In the authors' code a turn is lost whose row is taken already.
    """

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Embeddings of the pool and of the targets."""
        return {
            "embeddings": Embeddings("weighted"),
            "target_embeddings": TargetEmbeddings("weighted"),
            "target_sources": TargetSources(),
        }

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """k rows, each with the cosine by which it was taken; ties go to the smaller id.

        Raises:
            InputError: none of the examples fits the proxy's context.
        """
        pool, targets, sources = (signals[name] for name in self.needs)
        in_order = np.array(sorted(eligible, key=lambda row: signals.ids[row]), dtype=np.int64)
        known = np.isfinite(pool[in_order]).all(axis=1)
        aimed = np.isfinite(targets).all(axis=1)
        if not aimed.any():
            raise InputError("none of the validation examples fits the proxy's context")
        rows, unread = in_order[known], in_order[~known]
        queue = turns(sources[aimed].tolist())
        taken = round_robin(_unit(pool[rows]), _unit(targets[aimed]), queue, k)
        return Selection(
            n=len(signals),
            indices=[int(rows[place]) for place, _ in taken],
            scores=[cosine for _, cosine in taken],
            excluded={"no embedding": sorted(unread.tolist())} if len(unread) else {},
        )


def turns(sources: Sequence[str]) -> Iterator[int]:
    """Places of the targets in the order of their turns, without end: one of each source a round.

    Of sources a a a b the turns are a₁ b₁ a₂ b₁ a₃ b₁ a₁ …
    """
    places: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        places.setdefault(source, []).append(place)
    examples = [cycle(of_source) for of_source in places.values()]
    return (next(of_source) for of_source in cycle(examples))


def round_robin(
    candidates: np.ndarray, targets: np.ndarray, queue: Iterator[int], k: int
) -> list[tuple[int, float]]:
    """Up to k candidates (n × h) with their cosines, as the targets (m × h) in ``queue`` take them.

    All vectors are of unit length. Of equally near candidates the first is taken.
    """
    k = min(k, len(candidates))
    nearest = nearest_first(candidates, targets, k)
    seen = np.zeros(len(targets), dtype=np.int64)  # how many of its nearest a target is past
    free = np.ones(len(candidates), dtype=bool)
    taken: list[tuple[int, float]] = []
    for target in islice(queue, k):
        while not free[nearest[target, seen[target]]]:
            seen[target] += 1
        place = int(nearest[target, seen[target]])
        free[place] = False
        taken.append((place, float(candidates[place] @ targets[target])))
    return taken


def nearest_first(candidates: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Each target's k nearest candidates, m × k, one of which is free whenever fewer are taken."""
    found = np.empty((len(targets), k), dtype=np.int32)
    step = max(1, AT_ONCE // max(1, len(candidates)))
    for start in range(0, len(targets), step):
        cosines = np.round(targets[start : start + step] @ candidates.T, DIGITS)
        found[start : start + step] = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    whole = vectors.astype(np.float64)
    return whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
