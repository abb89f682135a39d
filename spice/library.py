"""The library face: selection for people who bring their own gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from spice.errors import InputError
from spice.gradients.agreement import Agreement, agreement, directions, judging_groups
from spice.records import Selection
from spice.selectors.spice import Spice
from spice.signals.reliability import Consensus


class Options(TypedDict, total=False):
    """What :func:`select` may be told beside the gradients; :data:`DEFAULTS` has the rest."""

    #: λ ≥ 0. 0 is plain Fisher information.
    penalty: float
    #: α > 0, or ``"relative"`` for 1/mean ‖g‖².
    alpha: float | Literal["relative"]
    #: ``"raw"``, ``"unit"`` (each gradient divided by its norm), or ``"clip"`` (the longest shrunk
    #: to the ``clip_quantile`` of the norms).
    scale: str
    #: In (0, 1].
    clip_quantile: float
    #: ω in [0, 1]; stop before the first pick with Δ ≤ ω·Δ of the first pick. None: never.
    stop_ratio: float | None
    #: Keep that pick.
    stop_inclusive: bool
    #: Let rows with a zero gradient be picked.
    keep_zero: bool
    #: The form of the information; :mod:`spice.submodular.fisher` has the others.
    fisher: str
    #: The way to the same picks; :mod:`spice.submodular.objective` has them all.
    maximizer: str
    #: Parts that are chosen from one by one, and then once more from what they gave: in less
    #: memory, and not quite as well. ``"auto"`` is 1 where that fits, else as few as do.
    partitions: int | Literal["auto"]


DEFAULTS: Options = {
    "penalty": 0.1,
    "alpha": 1.0,
    "scale": "raw",
    "clip_quantile": 0.95,
    "stop_ratio": None,
    "stop_inclusive": False,
    "keep_zero": False,
    "fisher": "exact",
    "maximizer": "auto",
    "partitions": "auto",
}


def select(gradients: Any, k: int, *, weights: Any = None, **options: Unpack[Options]) -> Selection:
    """Pick k of n gradients by SPICE: exact Fisher log-determinant gains less a conflict penalty.

    At each step the row with the largest Δ_x(S) − λ·c(x|S) is taken, where
    Δ_x(S) = log(1 + α g_xᵀ(I + α Σ_S g gᵀ)⁻¹ g_x) and c(x|S) = max(0, −cos(g_x, mean of S)), ties
    to the smaller position (arXiv 2601.23155). Up to 4,000 rows all is done in float64; larger
    pools are gone through in blocks, in float32 unless they come in float64, and may stay on disk
    (a memory-mapped array is never read whole).

    Args:
        gradients: n × d, numpy or torch, any float type.
        k: how many; more than there are usable rows gives all of them and a warning.
        weights: n numbers ≥ 0, how far each row is to be trusted, as :func:`reliability` has them:
            rows are then w_x g_x/‖g_x‖, ``scale`` has no part in it, and rows of weight 0 are left
            out. With α = 10 a trusted row's gain stands well above the identity's.
        options: :class:`Options` says what each means, :data:`DEFAULTS` what it is if not given.

    Returns:
        A selection with ``indices``, ``gains``, ``conflicts``, ``bases``, ``epsilons`` in the
        order of picking, ``information`` F(S), a ``certificate`` of how far from the best k rows
        that can be, and ``excluded`` rows (zero, not finite or not trusted).

    Raises:
        InputError: arguments outside these ranges, or gradients that are not n × d.
        TypeError: an option that there is not.
    """
    settings = _settings(options)
    matrix = _matrix(gradients)
    trusted = None if weights is None else _weights(weights, len(matrix))
    count, rows = _count(k), range(len(matrix))
    selector = Spice(**settings, reliability=None)
    selection = selector.select_gradients(matrix, rows, count, rows, weights=trusted)
    for message in _left_out(selection, k):
        warnings.warn(message, stacklevel=2)
    return selection


def reliability(
    gradients: Any,
    sources: Sequence[Any] | None = None,
    *,
    share: float = 0.1,
    copies: float = 0.98,
    references: int = 2048,
    seed: int = 0,
) -> Agreement:
    """How far each gradient can be trusted, by what the others of its source say of it.

    For row x each other row of its source has a vote, the cosine of the two gradients. Support c⁺
    is the mean of the largest tenth of the votes, opposition c⁻ that of the largest tenth of their
    negatives, a = c⁺ − c⁻ the net consensus, and w² = (max(0, a)/τ)^(½ + π), where π estimates the
    untrustworthy share of the source and τ is the consensus of a typical row of the others:
    :mod:`spice.gradients.agreement` has all of it.

    Args:
        gradients: n × d, numpy or torch, any float type.
        sources: n names, or None where all rows judge each other.
        share: of the votes whose mean is taken.
        copies: the cosine above which rows are near copies, which share one vote.
        references: voters of a source at most, drawn from ``seed`` where it has more rows.
        seed: draws them.

    Returns:
        An agreement with ``weights()``, ``support``, ``opposition`` and ``net``, n each.

    Raises:
        InputError: arguments outside these ranges, gradients that are not n × d, or other than
            n sources.
    """
    matrix = _matrix(gradients)
    names = _names(sources, len(matrix))
    Consensus("source", share, copies, references, seed)  # refuses what makes no sense
    groups = judging_groups(names, directions(matrix))
    return agreement(matrix, groups, share=share, copies=copies, references=references, seed=seed)


def _settings(options: Options) -> dict[str, Any]:
    """All options, those not given as :data:`DEFAULTS` has them."""
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"select() got an unexpected keyword argument {name!r}")
    return {**DEFAULTS, **{name: _plain(value) for name, value in options.items()}}


def _plain(value: Any) -> Any:
    """numpy's numbers and booleans as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _count(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, Real) or k != k // 1 or k < 0:
        raise InputError(f"k={k}: must be a whole number of at least 0")
    return int(k)


def _left_out(selection: Selection, k: int) -> Iterator[str]:
    """What to warn of: rows that could not be picked, and too few of the others."""
    usable = selection.n
    for why, rows in selection.excluded.items():
        usable -= len(rows)
        yield f"{len(rows)} of {selection.n} rows left out: {why} (rows {_few(rows)})"
    if k > usable:
        yield f"k={k}, but only {usable} rows can be picked"


def _names(sources: Sequence[Any] | None, n: int) -> list[str] | None:
    if sources is None:
        return None
    names = [str(source) for source in sources]
    if len(names) != n:
        raise InputError(f"sources: {len(names)} for {n} gradients")
    return names


def _weights(weights: Any, n: int) -> np.ndarray:
    given = np.asarray(_array(weights), dtype=float)
    if given.shape != (n,):
        raise InputError(f"weights must be {n} numbers, one a row, not of shape {given.shape}")
    if not np.all(np.isfinite(given) & (given >= 0)):
        raise InputError("weights must be finite numbers of at least 0")
    return given


def _array(values: Any) -> Any:
    """What came from torch as numpy; bfloat16 included, which numpy does not know."""
    if not hasattr(values, "detach"):
        return values
    if str(values.layout) != "torch.strided" or values.is_meta:
        raise InputError("gradients and weights must be dense tensors that hold values")
    values = values.detach().cpu()
    short = values.is_floating_point() and values.element_size() < 4
    return (values.float() if short else values).numpy()


def _matrix(gradients: Any) -> np.ndarray:
    try:
        matrix = np.asarray(_array(gradients))
    except ValueError as error:  # rows of different lengths
        raise InputError(f"gradients must be n × d: {error}") from error
    if matrix.ndim != 2:
        raise InputError(f"gradients must be n × d, not of shape {matrix.shape}")
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"gradients must be real numbers, not {matrix.dtype}")
    return matrix if matrix.dtype in (np.float16, np.float32) else matrix.astype(float, copy=False)


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
