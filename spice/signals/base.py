"""What can be read off a model over a pool, and the store that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Example, Renderer
    from spice.records import Row


class Signal(Protocol):
    """A vector for each of a few texts per row, from forward passes alone."""

    def fingerprint(self) -> dict[str, Any]:
        """What decides the values, besides the pool and the model."""
        ...

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """The texts of each row, equally many; one without tokens is not read and stays NaN."""
        ...

    def width(self, model: Any) -> int:
        """The length of a vector."""
        ...

    def read(self, model: Any, batch: Batch) -> Tensor:
        """The vectors of a batch of texts, b × width."""
        ...

    def collect(self, values: np.ndarray) -> np.ndarray:
        """What selectors see, from n × texts × width."""
        ...
