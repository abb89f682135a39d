"""The loss of each response with its prompt, and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data.rendering import Example
from spice.signals.forward import ForwardSignal

if TYPE_CHECKING:
    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Renderer
    from spice.gradients.extraction import Extraction
    from spice.records import Row


class Losses(ForwardSignal):
    """Mean negative log-likelihood of the same response tokens, n × 2 in nats.

    First given the whole prompt (conditional), then given only what opens a response (direct):
    the plain template's ``answer``, or what a chat template writes to ask for one. A conversation
    is read by its last answer that is learnt: the turns before it are its prompt, and those behind
    it are left out.
    """

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "losses"}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """A row's own example up to its last answer, and that answer behind the opening alone."""
        head, none = renderer.opening_ids(), Example([], 0)
        last = (example.last_answer() for example in examples)
        return [
            [e, Example(head + e.ids[e.start :], len(head))] if e.supervised else [none, none]
            for e in last
        ]

    def width(self, config: Any) -> int:
        """The mean loss."""
        return 1

    def read(self, model: Any, batch: Batch) -> Tensor:
        """Mean loss over the supervised tokens, b × 1."""
        import torch

        from spice.models.loss import response_nll  # keeps torch out of start-up

        with torch.no_grad():
            nll, count = response_nll(model, batch)
        return (nll / count)[:, None]

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × 2."""
        return values[:, :, 0]
