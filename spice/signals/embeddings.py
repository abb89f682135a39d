"""Mean-pooled hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from spice.batches import Batch
    from spice.planning.work import Work
    from spice.records import Row
    from spice.rendering import Example, Renderer
    from spice.signals.source import Source


class Embeddings:
    """The mean of the last layer's hidden states over all tokens of a row, n × h."""

    def fingerprint(self) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "embeddings"}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """Prompt and response as they are trained on."""
        return [[example] for example in examples]

    def width(self, model: Any) -> int:
        """h."""
        return int(model.config.hidden_size)

    def read(self, model: Any, batch: Batch) -> Tensor:
        """Means over the tokens that are not padding, b × h."""
        import torch

        mask = batch["attention_mask"]
        with torch.no_grad():
            states = model.base_model(
                input_ids=batch["input_ids"], attention_mask=mask, use_cache=False
            ).last_hidden_state.float()
        return (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × h."""
        return values[:, 0]


class TargetEmbeddings:
    """The same of the validation examples, m × h."""

    aims: ClassVar[bool] = True

    def fingerprint(self) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "target embeddings"}

    def build(self, folder: Path, source: Source) -> None:
        """Read the targets as rows of a pool of their own."""
        model, store = source.reading.checkpoint.load(), folder / "store"
        found = source.forward(model, Embeddings(), store, self.fingerprint(), source.targets)
        np.save(folder / "embeddings.npy", found)

    def work(self, source: Source) -> list[Work]:
        """One forward pass over the targets."""
        from spice.planning.work import forward

        return [forward(source.reading, [source.reading.renderer.encode(source.targets)])]

    def load(self, folder: Path) -> np.ndarray:
        """m × h."""
        return np.load(folder / "embeddings.npy", allow_pickle=False)
