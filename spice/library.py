"""The library face: selection for people who bring their own gradients."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from spice.errors import InputError
from spice.gradients.agreement import Agreement, agreement, directions, judging_groups
from spice.records import Selection
from spice.selectors.spice import Spice
from spice.signals.reliability import Consensus


def select_gradients(gradients: Any, k: int, weights: Any, **options: Any) -> Selection:
    """Check what came from outside and hand it to the selector; see :func:`spice.select`."""
    matrix = _matrix(gradients)
    trusted = None if weights is None else _weights(weights, len(matrix))
    if isinstance(k, bool) or not isinstance(k, Real) or k != k // 1 or k < 0:
        raise InputError(f"k={k}: must be a whole number of at least 0")
    n = len(matrix)
    selector = Spice(**options, reliability=None)
    selection = selector.select_gradients(matrix, range(n), int(k), range(n), weights=trusted)
    usable = n - sum(len(rows) for rows in selection.excluded.values())
    for why, rows in selection.excluded.items():
        message = f"{len(rows)} of {n} rows left out: {why} (rows {_few(rows)})"
        warnings.warn(message, stacklevel=3)
    if k > usable:
        warnings.warn(f"k={k}, but only {usable} rows can be picked", stacklevel=3)
    return selection


def judge(gradients: Any, sources: Sequence[Any] | None, **options: Any) -> Agreement:
    """Check what came from outside and let rows judge each other; see :func:`spice.reliability`."""
    matrix = _matrix(gradients)
    names = None if sources is None else [str(source) for source in sources]
    if names is not None and len(names) != len(matrix):
        raise InputError(f"sources: {len(names)} for {len(matrix)} gradients")
    Consensus(within="source", **options)  # refuses what makes no sense
    groups = judging_groups(names, directions(matrix))
    return agreement(matrix, groups, **options)


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
