"""LEAD: a bandit over difficulties, rows by their estimated loss (arXiv 2505.07437).

The proxy is trained while it is chosen from. Round after round the bandit draws a cluster of
difficulty, each source in it gives its rows of highest utility, and the proxy trains on them. What
this does to their losses updates their utilities and rewards the bandit; no other row is read
again. :mod:`spice.schedules.rounds` does the training; here is all that decides what comes next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.base import OnlineSelector
from spice.selectors.ifd import ifd
from spice.signals.base import Signal
from spice.signals.experience import Experience, ExperiencedLosses, k_means
from spice.signals.losses import Losses
from spice.values import Count, Part, Positive, Seed, Share, component


@component
class Lead(OnlineSelector):
    """Up to k rows in the order in which they are first trained on.

    Rows are clustered by difficulty, their loss ratio (see :class:`spice.selectors.ifd.Ifd`) after
    a ``warmup``, 0 where it exceeds 1, into ``clusters`` by k-means. A round takes the ``share`` of
    highest utility of the rows that each source has left in the drawn cluster, at least one; a
    row is used ``uses`` times at most. ``exploration`` is the bandit's γ, ``smoothing`` b the
    weight of a utility's past. The proxy's adapter trains at ``learning_rate`` in steps of
    ``batch_size`` rows. ``seed`` starts k-means.

    Raises:
        InputError: an option outside its range.
    """

    warmup: Experience
    clusters: Count
    share: Share
    uses: Count
    exploration: Share
    smoothing: Part
    learning_rate: Positive
    batch_size: Count
    seed: Seed

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Losses of the proxy as it is, the first utilities, and after the warm-up."""
        return {"losses": Losses(), "experienced_losses": ExperiencedLosses(self.warmup)}

    def begin(self, signals: Signals, k: int, seed: int, eligible: Sequence[int]) -> Rounds:
        """The state before the first round; ``seed`` draws the clusters of the rounds."""
        utilities = signals["losses"][:, 0].astype(np.float64)
        known = [row for row in eligible if np.isfinite(utilities[row])]
        rows = np.array(sorted(known, key=lambda row: signals.ids[row]), dtype=np.int64)
        hard = difficulty(signals["experienced_losses"][rows])
        labels = k_means(hard[:, None], self.clusters, self.seed) if len(rows) else rows
        groups: list[list[list[int]]] = []
        for label in np.unique(labels):
            by_source: dict[str, list[int]] = {}
            for row in rows[labels == label].tolist():
                by_source.setdefault(signals.sources[row], []).append(row)
            groups.append([by_source[source] for source in sorted(by_source)])
        unknown = sorted(set(eligible) - set(known))
        return Rounds(self, groups, utilities, min(k, len(rows)), seed, unknown)


class Round(NamedTuple):
    """A cluster, the chance with which it was drawn, and the rows to train on."""

    cluster: int
    chance: float
    rows: list[int]


@dataclass
class Rounds:
    """What LEAD knows between two rounds.

    ``groups`` are the rows of each cluster and source, in the order of their ids; ``utilities`` n;
    ``weights`` the bandit's, one per cluster, the largest of them 1; ``used`` n, how often each row
    was trained on; ``first_drops`` the mean loss drop in each cluster's first round, ``last_drop``
    that of the round before.
    """

    options: Lead
    groups: list[list[list[int]]]
    utilities: np.ndarray
    k: int
    seed: int
    unknown: list[int]
    number: int = 0
    picks: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    first_drops: dict[int, float] = field(default_factory=dict)
    last_drop: float = 0.0

    def __post_init__(self) -> None:
        self.weights = np.ones(len(self.groups))
        self.used = np.zeros(len(self.utilities), dtype=np.int64)

    @property
    def done(self) -> bool:
        """Whether the budget is reached."""
        return len(self.picks) >= self.k

    def probabilities(self) -> np.ndarray:
        """The chance of each cluster; none for one whose rows are used up."""
        rows = [itertools.chain.from_iterable(sources) for sources in self.groups]
        left = np.array([any(self.used[row] < self.options.uses for row in of) for of in rows])
        chances = np.zeros(len(self.groups))
        chances[left] = exp3_probabilities(self.weights[left], self.options.exploration)
        return chances

    def draw(self) -> Round:
        """The next round; the last one takes no more rows than are wanted."""
        chances = self.probabilities()
        rng = np.random.default_rng([self.seed, self.number])
        cluster = int(rng.choice(len(chances), p=chances))
        rows: list[int] = []
        for source in self.groups[cluster]:
            if left := self._left(source):
                count = max(1, int(self.options.share * len(left)))
                rows += self._best(left)[:count]
        picked = set(self.picks)
        new = self._best([row for row in rows if row not in picked])
        spare = set(new[self.k - len(self.picks) :])
        return Round(cluster, float(chances[cluster]), [row for row in rows if row not in spare])

    def observe(self, done: Round, before: np.ndarray, drop: float, cosine: float) -> None:
        """Take in a round: its rows' losses ``before`` it, and their mean loss drop.

        ``cosine`` is that of the parameters' changes in the cluster's first round and in the
        round before this one.
        """
        cluster, rows = done.cluster, done.rows
        picked = set(self.picks)
        new = [row for row in rows if row not in picked]
        self.scores += self.utilities[new].tolist()
        self.picks += new
        self.used[rows] += 1
        expected = self.last_drop  # all that is known of a cluster not seen before
        if cluster in self.first_drops:
            expected = expected_drop(self.first_drops[cluster], self.last_drop, cosine)
        b, past = self.options.smoothing, self.utilities[rows]
        self.utilities[rows] = (1 - b) * (before - expected) + b * past
        self.rewards.append(float(np.mean(past - self.utilities[rows])))
        gain = self.options.exploration / len(self.groups) * scaled_last(self.rewards)
        self.weights[cluster] *= math.exp(gain / done.chance)
        self.weights /= self.weights.max()  # changes no chance, and overflows never
        self.first_drops.setdefault(cluster, max(drop, 0.0))
        self.last_drop = max(drop, 0.0)
        self.number += 1

    def _left(self, source: list[int]) -> list[int]:
        return [row for row in source if self.used[row] < self.options.uses]

    def _best(self, rows: list[int]) -> list[int]:
        """Highest utility first; the sort is stable, so ties go to the smaller id."""
        return sorted(rows, key=lambda row: -self.utilities[row])

    def progress(self) -> dict[str, Any]:
        """What :meth:`restore` takes up, in plain numbers and lists."""
        arrays = ("utilities", "weights", "used")
        plain = ("number", "picks", "scores", "rewards", "first_drops", "last_drop")
        kept = {name: getattr(self, name) for name in plain}
        return {**kept, **{name: getattr(self, name).tolist() for name in arrays}}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go on from what was kept."""
        for name, value in progress.items():
            is_array = isinstance(getattr(self, name), np.ndarray)
            setattr(self, name, np.array(value) if is_array else value)

    def selection(self) -> Selection:
        """The rows in the order of their first use, with the utility that each had then."""
        excluded = {"no valid loss": self.unknown} if self.unknown else {}
        n = len(self.utilities)
        return Selection(n=n, indices=self.picks, scores=self.scores, excluded=excluded)


def difficulty(losses: np.ndarray) -> np.ndarray:
    """The ratio of losses n × 2, 0 where it exceeds 1 or is not known."""
    ratios = np.nan_to_num(ifd(losses, "loss"), nan=0.0, posinf=0.0)
    return np.where(ratios > 1, 0.0, ratios)


def exp3_probabilities(weights: np.ndarray, exploration: float) -> np.ndarray:
    """(1 − γ) w/Σw + γ/m for m clusters; m numbers."""
    return (1 - exploration) * weights / weights.sum() + exploration / len(weights)


def scaled_last(rewards: Sequence[float]) -> float:
    """The last reward on a scale from −1, the worst so far, to 1, the best; 0 if all are equal."""
    low, high = min(rewards), max(rewards)
    return 2 * (rewards[-1] - low) / (high - low) - 1 if high > low else 0.0


def expected_drop(first: float, last: float, cosine: float) -> float:
    """The loss drop of a step between two known ones, β²δ_k + (1−β)²δ + 2β(1−β)a.

    a = √(δ_k δ) cos φ with δ_k the cluster's ``first`` drop, δ the ``last`` round's and φ the angle
    between their steps; β = (δ − a)/(δ_k + δ − 2a) makes the norm of the mixed gradient least, 0
    where the two are one. A drop is η times a squared gradient norm to first order, so the η that
    stands before the source's bracket of squared norms is in it already.
    """
    across = math.sqrt(first * last) * cosine
    between = first + last - 2 * across
    beta = (last - across) / between if between > 0 else 0.0
    return beta**2 * first + (1 - beta) ** 2 * last + 2 * beta * (1 - beta) * across
