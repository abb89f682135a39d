"""Per-sample gradients: read, projected, stored, and what they say of each other.

The room is also the library's function of its name: ``spice.gradients(model, tokenizer, rows)``
is :func:`spice.gradients.live.gradients`, whatever was imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    import numpy as np

    from spice.gradients.live import Options
    from spice.records import Row


class _Room(ModuleType):
    def __call__(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Mapping[str, Any] | Row],
        **options: Unpack[Options],
    ) -> np.ndarray:
        """As :func:`spice.gradients.live.gradients`: n rows to n × d numbers."""
        from spice.gradients.live import gradients  # keeps torch out of start-up

        return gradients(model, tokenizer, rows, **options)


sys.modules[__name__].__class__ = _Room
