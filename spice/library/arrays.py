"""What people hand the library, as numpy has it; what is none of it is an InputError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spice.errors import InputError


def names(sources: Sequence[Any] | None, n: int) -> list[str] | None:
    """n names of sources; None if there are none.

    Raises:
        InputError: there are other than n.
    """
    if sources is None:
        return None
    found = [str(source) for source in sources]
    if len(found) != n:
        raise InputError(f"sources: {len(found)} for {n} gradients")
    return found


def numbers(weights: Any, n: int) -> np.ndarray:
    """Weights (n) in float64.

    Raises:
        InputError: these are not n finite numbers of at least 0.
    """
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


def matrix(gradients: Any) -> np.ndarray:
    """Gradients n × d in a type of floating point; what is on disk stays there.

    Raises:
        InputError: these are not n × d real numbers.
    """
    try:
        found = np.asarray(_array(gradients))
    except ValueError as error:  # rows of different lengths
        raise InputError(f"gradients must be n × d: {error}") from error
    if found.ndim != 2:
        raise InputError(f"gradients must be n × d, not of shape {found.shape}")
    if found.dtype.kind not in "fiu":
        raise InputError(f"gradients must be real numbers, not {found.dtype}")
    return found if found.dtype in (np.float16, np.float32) else found.astype(float, copy=False)
