"""The second moment of a response's last-layer states: what FisherSFT needs of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class TokenInformation(ForwardSignal):
    """A_i = Σ_j x_ij x_ijᵀ over the positions j that predict a response token, n × h(h+1)/2.

    Of a conversation, the positions of all answers that are learnt count. x_ij is what the output
    layer is given; the upper triangle is kept, row by row. With
    ``dimension`` p < h the states go through a seeded ±1/√p projection first, which keeps inner
    products on average, and h above is p.
    """

    dimension: int | None

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """The projection's size."""
        return {"signal": "token information", "dimension": self.dimension}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """Rows with something to learn from."""
        return [[e if e.supervised else Example([], 0)] for e in examples]

    def width(self, config: Any) -> int:
        """Entries of the triangle."""
        h = self._size(config)
        return h * (h + 1) // 2

    def _size(self, config: Any) -> int:
        hidden = int(config.hidden_size)
        return min(self.dimension or hidden, hidden)

    def read(self, model: Any, batch: Batch) -> Tensor:
        """Triangles of a batch, b × h(h+1)/2."""
        import torch

        from spice.data.batches import IGNORED  # keeps torch out of start-up

        with torch.no_grad():
            states = model.base_model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                use_cache=False,
            ).last_hidden_state.float()  # fmt: skip
        states = self._projected(states, model)
        predicts = torch.zeros_like(batch["labels"], dtype=torch.bool)
        predicts[:, :-1] = batch["labels"][:, 1:] != IGNORED
        states = states * predicts[:, :, None]
        moments = states.transpose(1, 2) @ states
        upper = torch.triu_indices(*moments.shape[1:])
        return moments[:, upper[0], upper[1]]

    def _projected(self, states: Tensor, model: Any) -> Tensor:
        import torch

        size = self._size(model.config)
        if size == states.shape[-1]:
            return states
        draw = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (states.shape[-1], size), generator=draw) * 2 - 1
        return states @ (signs.to(states) / size**0.5)

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × h(h+1)/2."""
        return values[:, 0]
