"""Selection for people who bring their own gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Real
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from spice.errors import InputError
from spice.library import arrays
from spice.records import Selection
from spice.selectors.spice import Spice


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
    matrix, selector = arrays.matrix(gradients), spice_of(options)
    trusted = None if weights is None else arrays.numbers(weights, len(matrix))
    count, rows = _count(k), range(len(matrix))
    selection = selector.select_gradients(matrix, rows, count, rows, weights=trusted)
    for message in _left_out(selection, k):
        warnings.warn(message, stacklevel=2)
    return selection


def spice_of(options: Options) -> Spice:
    """The selector with these options, those not given as :data:`DEFAULTS` has them.

    Raises:
        TypeError: an option that there is not.
    """
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"select() got an unexpected keyword argument {name!r}")
    given = {name: _plain(value) for name, value in options.items()}
    return Spice(**{**DEFAULTS, **given}, reliability=None)


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


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
