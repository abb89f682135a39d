"""Mean-pooled hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from spice.batches import Batch
    from spice.reading import Reading
    from spice.records import Row
    from spice.rendering import Example, Renderer
    from spice.signals.extraction import Extraction


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

    def fingerprint(self) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "target embeddings"}

    def build(
        self,
        folder: Path,
        reading: Reading,
        ids: Sequence[str],
        targets: Sequence[Row],
        extraction: Extraction,
        *,
        trainer: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        """Read the targets as rows of a pool of their own."""
        from spice.signals import forward

        signal, own = Embeddings(), [row.id for row in targets]
        texts = signal.texts(reading.renderer, targets, reading.renderer.encode(targets))
        forward.extract(
            reading.checkpoint,
            signal,
            texts,
            own,
            extraction,
            folder=folder / "store",
            metadata=self.fingerprint(),
            pad_id=reading.pad_id,
            trainer=trainer,
            say=say,
        )
        found = forward.read(folder / "store", signal, texts, own, extraction, self.fingerprint())
        np.save(folder / "embeddings.npy", found)

    def load(self, folder: Path) -> np.ndarray:
        """m × h."""
        return np.load(folder / "embeddings.npy", allow_pickle=False)
