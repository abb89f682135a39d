"""SPICE: greedy Fisher information with a penalty for conflicting gradients (arXiv 2601.23155)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.account import account
from spice.selectors.base import GradientSelector
from spice.selectors.mix import Mix
from spice.selectors.problem import alpha_and_eta, candidates, parts_that_fit
from spice.selectors.scaling import SCALES, rescale, weighted
from spice.signals.gradients import Gradients
from spice.signals.reliability import Consensus, Validation
from spice.submodular.fisher import MODES, OF_PRODUCTS
from spice.submodular.kernel import Rows, Subset
from spice.submodular.objective import MAXIMIZERS, Objective, way
from spice.submodular.partitions import Partition
from spice.values import (
    Count,
    Fraction,
    NonNegative,
    OneOf,
    Positive,
    RefusedError,
    Share,
    Told,
    component,
)

if TYPE_CHECKING:
    from spice.signals.base import Signal
    from spice.submodular.kept_runs import KeptRuns

#: options that greedy runs over one objective do not differ by
CUTS = (
    "penalty", "stop_ratio", "stop_inclusive", "maximizer", "stratify", "quotas", "partitions",
)  # fmt: skip

#: what a window of some rows has no use for
OF_ALL_ROWS = {
    "reliability": "selector.reliability needs schedule=global: how far a row can be trusted is "
    "read off the whole pool",
    "mix": "selector.stratify and selector.quotas need schedule=global: a window of some rows "
    "cannot see the mix of all picks",
    "partitions": "selector.partitions above 1 needs schedule=global: a window is a part of the "
    "pool already",
}

Weights = Annotated[
    Consensus | Validation | None,
    Told("must be null, or hold the keys of Consensus or Validation"),
]
Parts = Annotated[Count | Literal["auto"], Told("must be a whole number of at least 1, or 'auto'")]


@component
class Spice(Mix, GradientSelector):
    """Pick by Δ_x(S) − λ c(x|S); see :mod:`spice.submodular.greedy` for the formulas.

    ``fisher`` is the form of the information, one of :data:`spice.submodular.fisher.MODES`;
    ``information`` reports the exact F(S) of the picks for every form.
    ``penalty`` λ ≥ 0; ``alpha`` α > 0, or ``relative`` for α = 1/mean ‖g‖², which makes the choice
    independent of the gradients' scale. ``stop_ratio`` ω in [0, 1] stops at the first pick whose
    gain is at most ω times the first pick's (SPICE+); ``stop_inclusive`` keeps that pick. Gradients
    are seen at ``scale`` (:func:`spice.selectors.scaling.rescale`, with ``clip_quantile``). Rows
    whose gradient is zero are left out unless ``keep_zero``: they gain nothing, and yet a zero
    score beats a conflicting row's negative one. ``maximizer`` is one of
    :data:`spice.submodular.objective.MAXIMIZERS`; it decides time and memory, not the picks.
    ``reliability`` weighs rows: w_x ĝ_x is what is chosen from (:mod:`spice.gradients.agreement`).
    ``partitions`` above 1 choose in two rounds (:mod:`spice.submodular.two_rounds`), in less memory
    and not quite as well; ``auto`` takes one greedy where that fits, else as few parts as do.

    Raises:
        RefusedError: a ``maximizer`` for a form of the information that has one way only, or
            ``reliability`` at another scale than ``unit``.
    """

    penalty: NonNegative
    alpha: Annotated[Positive | Literal["relative"], Told("must be above 0, or 'relative'")]
    scale: Annotated[str, OneOf(*SCALES)]
    clip_quantile: Share
    stop_ratio: Fraction | None
    stop_inclusive: bool
    keep_zero: bool
    fisher: Annotated[str, OneOf(*MODES)]
    maximizer: Annotated[str, OneOf(*MAXIMIZERS)]
    reliability: Weights
    partitions: Parts

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Gradients, and the weights that are read off them."""
        weights = {"reliability": self.reliability} if self.reliability else {}
        return {"gradients": Gradients(), **weights}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fisher != "exact" and self.maximizer != "auto":
            several = "only fisher=exact has several ways; set it to auto"
            raise RefusedError("maximizer", self.maximizer, several)
        if self.reliability and self.scale != "unit":
            raise RefusedError("scale", self.scale, "reliability weighs directions; set it to unit")

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Pick up to k of the eligible rows; ties go to the smaller id."""
        return self.select_gradients(
            signals["gradients"],
            signals.ids,
            k,
            eligible,
            weights=signals.weights,
            sources=signals.sources,
        )

    def select_gradients(
        self,
        gradients: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        kept: KeptRuns | None = None,
        certified: bool = True,
        weights: np.ndarray | None = None,
        sources: Sequence[str] = (),
    ) -> Selection:
        """The same from gradients n × d alone; ``kept`` has runs for other budgets and ω.

        ``weights`` n, if any, say how far each row is to be trusted; ``sources`` n are asked for
        where the mix is kept or set.

        Rows are worked on in the order of their ids, so ties go to the smaller id and the order
        of the input changes nothing, to the bit.
        """
        trusted, distrusted = _by_trust(eligible, weights)
        seen = self.seen(gradients, eligible, weights)
        asked = seen, ids, k, eligible, sources, trusted, certified
        objective, rows, excluded = self._problem(*asked)
        maximise = partial(kept.maximise, objective) if kept else objective.maximise
        trace = maximise(k, float(self.penalty), **self.stopping)
        # How many picks λ changed: the same count of picks, chosen again with λ = 0.
        plain = maximise(len(trace.picks), 0.0) if self.penalty else trace
        selection = account(trace, plain, objective, rows, len(gradients), self.penalty)
        excluded["not trusted"] = distrusted
        excluded = {why: sorted(which) for why, which in excluded.items() if which}
        selection = replace(selection, excluded=excluded)
        if weights is None:
            return selection
        apart = kept.apart(weights="none") if kept else None
        alike = self.select_alike(gradients, ids, selection.k, eligible, apart, sources)
        chosen = [float(weights[row]) for row in selection.indices]
        return replace(selection, weights=chosen, without_weights=alike)

    def select_alike(
        self,
        gradients: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        kept: KeptRuns | None = None,
        sources: Sequence[str] = (),
    ) -> list[int]:
        """The k picks from gradients n × d with all rows trusted alike, w ≡ 1."""
        seen = rescale(gradients, "unit", self.clip_quantile, eligible)
        objective, rows, _ = self._problem(seen, ids, k, eligible, sources)
        maximise = partial(kept.maximise, objective) if kept else objective.maximise
        return [int(rows[pick]) for pick in maximise(k, float(self.penalty)).picks]

    def seen(
        self, gradients: Rows, eligible: Sequence[int], weights: np.ndarray | None = None
    ) -> Rows:
        """Gradients n × d at the selector's scale, each by its weight if there are weights."""
        if weights is not None:
            return weighted(gradients, weights)
        return rescale(gradients, self.scale, self.clip_quantile, eligible)

    def picks(
        self,
        seen: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        sources: Sequence[str] = (),
    ) -> list[int]:
        """The choice alone, from gradients n × d at the selector's scale; nothing is said about it.

        What is left out of ``eligible`` since they were :meth:`seen` does not move their scale.
        """
        objective, rows, _ = self._problem(seen, ids, k, eligible, sources)
        trace = objective.maximise(k, float(self.penalty), **self.stopping)
        return [int(rows[pick]) for pick in trace.picks]

    def form_and_way(self, n: int, d: int, k: int) -> tuple[str, str]:
        """The form of F, and the maximiser of k picks of n × d; only the exact form has several."""
        exact = self.fisher == "exact"
        return self.fisher, way(self.maximizer, n, d, k) if exact else self.maximizer

    @property
    def of_products(self) -> bool:
        """Of the forms of F, some."""
        return self.fisher in OF_PRODUCTS

    def objective_options(self) -> dict[str, Any]:
        """All options but those that cut a run short, go another way, or are kept apart anyhow."""
        return {name: v for name, v in asdict(self).items() if name not in CUTS}

    def parts(self, n: int, k: int) -> int:
        """Into how many parts n rows are cut for k picks.

        Raises:
            InputError: nobody said how many, and with no number of them it fits into memory.
        """
        if self.partitions != "auto":
            return self.partitions
        return parts_that_fit(n, min(k, n), self.fisher, self.maximizer)

    def check_window(self) -> None:
        """Refuse weights, shares of sources, and parts.

        Raises:
            InputError: one of them is asked for.
        """
        parts = self.partitions not in ("auto", 1)
        asked = {"reliability": self.reliability, "mix": self.mixed, "partitions": parts}
        for what, words in OF_ALL_ROWS.items():
            if asked[what]:
                raise InputError(words)

    @property
    def stopping(self) -> dict[str, Any]:
        """ω, and whether the pick that reaches it is kept."""
        return {"stop_ratio": self.stop_ratio, "stop_inclusive": self.stop_inclusive}

    def _problem(
        self,
        seen: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        sources: Sequence[str],
        trusted: Sequence[int] | None = None,
        certified: bool = False,
    ) -> tuple[Objective, np.ndarray, dict[str, list[int]]]:
        """The objective over the rows that can be used, those rows, and why others cannot."""
        among = eligible if trusted is None else trusted
        rows, squares, excluded = candidates(seen, ids, among, self.keep_zero)
        alpha, eta = alpha_and_eta(self.alpha, squares)
        form = self.fisher, self.maximizer, certified
        rooms, count = self.rooms(sources, eligible, rows, k), self.parts(len(ids), k)
        drawn = Partition.drawn([ids[row] for row in rows], count) if count > 1 else None
        objective = Objective(Subset(seen, rows), squares, alpha, eta, *form, rooms, drawn)
        return objective, rows, excluded


def _by_trust(
    eligible: Sequence[int], weights: np.ndarray | None
) -> tuple[Sequence[int], list[int]]:
    """Rows of a weight above 0, and the others."""
    if weights is None:
        return eligible, []
    trusted = [row for row in eligible if weights[row] > 0]
    return trusted, [row for row in eligible if not weights[row] > 0]
