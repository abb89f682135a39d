"""SPICE: greedy Fisher information with a penalty for conflicting gradients (arXiv 2601.23155)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spice.errors import InputError, did_you_mean
from spice.records import Selection, Signals
from spice.selectors.base import GradientSelector
from spice.selectors.mix import Mix
from spice.selectors.scaling import SCALES, rescale, weighted
from spice.signals.gradients import Gradients
from spice.submodular.fisher import MODES, OF_PRODUCTS
from spice.submodular.greedy import ETA, GreedyTrace
from spice.submodular.kernel import (
    Rows,
    Subset,
    inner_products,
    known_products,
    row_blocks,
    squared_norms,
)
from spice.submodular.objective import MAXIMIZERS, Objective, way
from spice.submodular.rooms import Rooms, told

if TYPE_CHECKING:
    from spice.signals.base import Signal
    from spice.signals.reliability import Consensus, Validation
    from spice.submodular.kept_runs import KeptRuns

#: options that greedy runs over one objective do not differ by
CUTS = ("penalty", "stop_ratio", "stop_inclusive", "maximizer", "stratify", "quotas")
WITNESSES = 1000  # candidates that stand for all where the share of conflicting ones is told

Alpha = float | Literal["relative"]


@dataclass(frozen=True)
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

    Raises:
        InputError: an option outside its range.
    """

    penalty: float
    alpha: Alpha
    scale: str
    clip_quantile: float
    stop_ratio: float | None
    stop_inclusive: bool
    keep_zero: bool
    fisher: str
    maximizer: str
    reliability: Consensus | Validation | None

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Gradients, and the weights that are read off them."""
        weights = {"reliability": self.reliability} if self.reliability else {}
        return {"gradients": Gradients(), **weights}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

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

        ``weights`` n say how far each row is to be trusted; ``sources`` n are for the mix.
        Rows are worked on in the order of their ids, so ties go to the smaller id and the order
        of the input changes nothing, to the bit.
        """
        trusted, distrusted = _by_trust(eligible, weights)
        seen = self.seen(gradients, eligible, weights)
        rooms_of = partial(self.rooms, sources, eligible, k=k)
        objective, rows, excluded = self._problem(seen, ids, trusted, certified, rooms_of)
        excluded["not trusted"] = distrusted
        maximise = partial(kept.maximise, objective) if kept else objective.maximise
        trace = maximise(k, float(self.penalty), **self._stopping)
        # How many picks λ changed: the same count of picks, chosen again with λ = 0.
        plain = maximise(len(trace.picks), 0.0) if self.penalty else trace
        found = replace(
            _selection(trace, plain, objective, rows, len(gradients)),
            certificate=objective.certificate(trace, self.penalty),
            without_penalty=[int(rows[i]) for i in plain.picks] if self.penalty else None,
            excluded={why: sorted(which) for why, which in excluded.items() if which},
            penalty=float(self.penalty),
            notes=told(objective.rooms),
        )
        if weights is None:
            return found
        apart = kept.apart(weights="none") if kept else None
        alike = self.select_alike(gradients, ids, found.k, eligible, apart, sources)
        chosen = [float(weights[row]) for row in found.indices]
        return replace(found, weights=chosen, without_weights=alike)

    def select_alike(
        self,
        gradients: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        kept: KeptRuns | None = None,
        sources: Sequence[str] = (),
    ) -> list[int]:
        """The k picks from gradients n × d, all rows trusted alike: w ≡ 1."""
        seen = rescale(gradients, "unit", self.clip_quantile, eligible)
        rooms_of = partial(self.rooms, sources, eligible, k=k)
        objective, rows, _ = self._problem(seen, ids, eligible, False, rooms_of)
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
        """The choice alone, from gradients n × d at the selector's scale; nothing is said of it.

        What is left out of ``eligible`` since they were :meth:`seen` does not move their scale.
        """
        rooms_of = partial(self.rooms, sources, eligible, k=k)
        objective, rows, _ = self._problem(seen, ids, eligible, False, rooms_of)
        trace = objective.maximise(k, float(self.penalty), **self._stopping)
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

    def check_window(self) -> None:
        """Refuse weights and shares of sources.

        Raises:
            InputError: either is asked for.
        """
        if self.reliability:
            raise InputError(
                "selector.reliability needs schedule=global: how far a row can be trusted is read "
                "off the whole pool"
            )
        if self.mixed:
            raise InputError(
                "selector.stratify and selector.quotas need schedule=global: a window of some rows "
                "cannot see the mix of all picks"
            )

    @property
    def _stopping(self) -> dict[str, Any]:
        return {"stop_ratio": self.stop_ratio, "stop_inclusive": self.stop_inclusive}

    def _problem(
        self,
        seen: Rows,
        ids: Sequence[str | int],
        eligible: Sequence[int],
        certified: bool,
        rooms_of: Callable[[np.ndarray], Rooms | None],
    ) -> tuple[Objective, np.ndarray, dict[str, list[int]]]:
        """The objective over the rows that can be used, those rows, and why others cannot."""
        in_order = np.array(sorted(eligible, key=lambda row: ids[row]), dtype=np.int64)
        squares = squared_norms(Subset(seen, in_order))
        finite, zero = np.isfinite(squares), squares == 0
        usable = finite if self.keep_zero else finite & ~zero
        excluded = {"not finite": in_order[~finite].tolist()}
        excluded["zero gradient"] = [] if self.keep_zero else in_order[zero].tolist()
        rows, squares = in_order[usable], squares[usable]
        objective = _objective(self, Subset(seen, rows), squares, certified)
        return replace(objective, rooms=rooms_of(rows)), rows, excluded


def _objective(options: Spice, gradients: Rows, squares: np.ndarray, certified: bool) -> Objective:
    """With α and η, which follow the gradients' scale if α is relative."""
    mean = float(squares.mean()) if len(squares) else 0.0
    relative = options.alpha == "relative"
    alpha = (1.0 / mean if mean > 0 else 1.0) if relative else float(options.alpha)
    if not math.isfinite(alpha * float(squares.max(initial=0.0))):
        raise InputError(f"selector.alpha={options.alpha}: α‖g‖² is too large for a float")
    eta = ETA / alpha if relative else ETA
    return Objective(gradients, squares, alpha, eta, options.fisher, options.maximizer, certified)


def _check(options: Spice) -> None:
    """Refuse options outside their ranges."""
    for name, known in (("scale", SCALES), ("fisher", MODES), ("maximizer", MAXIMIZERS)):
        given = getattr(options, name)
        if given not in known:
            hint = did_you_mean(str(given), known)
            raise InputError(f"selector.{name}={given}: one of {', '.join(known)}.{hint}")
    if options.fisher != "exact" and options.maximizer != "auto":
        several = "only fisher=exact has several ways; set it to auto"
        raise InputError(f"selector.maximizer={options.maximizer}: {several}")
    if not (_is_number(options.penalty) and options.penalty >= 0):
        raise InputError(f"selector.penalty={options.penalty}: must be a number of at least 0")
    if options.alpha != "relative" and not (_is_number(options.alpha) and options.alpha > 0):
        raise InputError(f"selector.alpha={options.alpha}: must be above 0, or 'relative'")
    if not (_is_number(options.clip_quantile) and 0 < options.clip_quantile <= 1):
        raise InputError(f"selector.clip_quantile={options.clip_quantile}: must be in (0, 1]")
    if options.stop_ratio is not None and not (
        _is_number(options.stop_ratio) and 0 <= options.stop_ratio <= 1
    ):
        raise InputError(f"selector.stop_ratio={options.stop_ratio}: must be in [0, 1]")
    if options.reliability and options.scale != "unit":
        raise InputError(
            f"selector.scale={options.scale}: reliability weighs directions; set it to unit"
        )


def _by_trust(
    eligible: Sequence[int], weights: np.ndarray | None
) -> tuple[Sequence[int], list[int]]:
    """Rows of a weight above 0, and the others."""
    if weights is None:
        return eligible, []
    trusted = [row for row in eligible if weights[row] > 0]
    return trusted, [row for row in eligible if not weights[row] > 0]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _share_against_mean(gradients: Rows) -> float:
    """The share of rows with g · ḡ < 0."""
    if (known := known_products(gradients)) is not None:
        return float(np.sum(known.sum(axis=1) < 0) / max(len(known), 1))
    blocks, total = row_blocks(gradients), np.zeros(gradients.shape[1])
    for rows in blocks:
        part = gradients[rows]
        total += np.ones(len(part), part.dtype) @ part
    mean = (total / max(len(gradients), 1)).astype(gradients.dtype)
    against = sum(int(np.sum(gradients[rows] @ mean < 0)) for rows in blocks)
    return against / max(len(gradients), 1)


def conflicting_shares(gradients: Rows, picks: Sequence[int]) -> list[float]:
    """The share of candidates with c > 0 at each pick but the first, told by some of them.

    k − 1 numbers, from gradients n × d.
    """
    n, m = len(gradients), len(picks)
    asked = np.unique(np.linspace(0, n - 1, min(n, WITNESSES)).astype(np.int64))
    along = np.cumsum(inner_products(gradients, asked, np.array(picks, dtype=np.int64)), axis=1)
    place = {pick: t for t, pick in enumerate(picks)}
    picked_at = np.array([place.get(int(x), m) for x in asked])
    free = picked_at[:, None] > np.arange(m)[None]  # still a candidate after t + 1 picks
    candidates = np.maximum(free.sum(axis=0), 1)
    return (((along < 0) & free).sum(axis=0) / candidates)[:-1].tolist()


def _selection(
    trace: GreedyTrace, plain: GreedyTrace, objective: Objective, rows: np.ndarray, n: int
) -> Selection:
    """What a run found; ``plain`` is the same count of picks with λ = 0."""
    bases = objective.bases()[trace.picks] if trace.picks else np.empty(0)
    gains = np.array(trace.gains)
    return Selection(
        n=n,
        indices=[int(rows[pick]) for pick in trace.picks],
        scores=trace.scores,
        gains=trace.gains,
        conflicts=trace.conflicts,
        bases=bases.tolist(),
        epsilons=np.minimum(gains - bases, 0.0).tolist(),
        information=objective.information(trace.picks)
        if objective.form != "exact"
        else float(gains.sum()),
        alpha=objective.alpha,
        trace={
            "conflicting": conflicting_shares(objective.gradients, trace.picks),
            "leverage": trace.leverage,
            "rows": rows,
            "squared_norms": objective.squares,
            "pool_conflict": _share_against_mean(objective.gradients),
            "changed_by_penalty": len(set(trace.picks) - set(plain.picks)),
        },
    )
