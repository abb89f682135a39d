"""The library face: selection for people who bring their own gradients."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np

from spice.errors import InputError
from spice.records import Selection
from spice.selectors.spice import Spice


def select_gradients(gradients: Any, k: int, **options: Any) -> Selection:
    """Check what came from outside and hand it to the selector; see :func:`spice.select`."""
    matrix = _matrix(gradients)
    if isinstance(k, bool) or not isinstance(k, Real) or k != k // 1 or k < 0:
        raise InputError(f"k={k}: must be a whole number of at least 0")
    n = len(matrix)
    selection = Spice(**options).select_gradients(matrix, range(n), int(k), range(n))
    usable = n - sum(len(rows) for rows in selection.excluded.values())
    for why, rows in selection.excluded.items():
        message = f"{len(rows)} of {n} rows left out: {why} (rows {_few(rows)})"
        warnings.warn(message, stacklevel=3)
    if k > usable:
        warnings.warn(f"k={k}, but only {usable} rows can be picked", stacklevel=3)
    return selection


def _matrix(gradients: Any) -> np.ndarray:
    if hasattr(gradients, "detach"):  # torch, bfloat16 included, which numpy does not know
        gradients = gradients.detach().cpu()
        short = gradients.is_floating_point() and gradients.element_size() < 4
        gradients = (gradients.float() if short else gradients).numpy()
    try:
        matrix = np.asarray(gradients)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"gradients must be n × d: {error}") from error
    if matrix.ndim != 2:
        raise InputError(f"gradients must be n × d, not of shape {matrix.shape}")
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"gradients must be real numbers, not {matrix.dtype}")
    return matrix if matrix.dtype in (np.float16, np.float32) else matrix.astype(float, copy=False)


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
