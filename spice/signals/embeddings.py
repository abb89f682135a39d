"""Hidden states pooled over the tokens of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from spice.distributed.per_rank import PerRank
from spice.gradients import work
from spice.signals.base import Signal
from spice.signals.forward import ForwardSignal, read_off
from spice.storage.files import write_array

if TYPE_CHECKING:
    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Example, Renderer
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.records import Row
    from spice.signals.source import Source


Pooling = Literal["mean", "weighted"]


@dataclass(frozen=True)
class Embeddings(ForwardSignal):
    """The mean Σ_i w_i s_i of the last layer's hidden states over the t tokens of a row, n × h.

    Of a conversation these are the tokens of all its turns.

    ``mean`` weighs all tokens alike, w_i = 1/t; ``weighted`` by their place, w_i = i / Σ_j j =
    2i / t(t + 1), so that tokens that have seen more of the row count more (arXiv 2202.08904).
    """

    pooling: Pooling = "mean"

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """What it is; the plain mean goes without saying."""
        return {"signal": "embeddings", **_named(self.pooling)}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """Prompt and response as they are trained on."""
        return [[example] for example in examples]

    def width(self, config: Any) -> int:
        """h."""
        return int(config.hidden_size)

    def read(self, model: Any, batch: Batch) -> Tensor:
        """Means over the tokens that are not padding, b × h."""
        import torch

        mask = batch["attention_mask"]
        weights = mask * mask.cumsum(dim=1) if self.pooling == "weighted" else mask
        with torch.no_grad():
            states = model.base_model(
                input_ids=batch["input_ids"], attention_mask=mask, use_cache=False
            ).last_hidden_state.float()
        return (states * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × h."""
        return values[:, 0]


@dataclass(frozen=True)
class TargetEmbeddings(Signal):
    """The same of the validation examples, m × h."""

    pooling: Pooling = "mean"
    aims: ClassVar[bool] = True

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """What it is, as :meth:`Embeddings.fingerprint` says it."""
        return {"signal": "target embeddings", **_named(self.pooling)}

    def build(self, folder: Path, source: Source) -> None:
        """Read the targets as rows of a pool of their own."""
        model, signal = PerRank(source.tokenized.checkpoint.load), Embeddings(self.pooling)
        found = read_off(model, signal, source, folder / "store", source.key, rows=source.targets)
        write_array(folder / "embeddings.npy", found)

    def work(self, source: Source) -> list[Work]:
        """One forward pass over the targets."""
        texts = [source.tokenized.renderer.encode(source.targets)]
        return [work.forward(source.tokenized, texts)]

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """m × h."""
        return np.load(folder / "embeddings.npy", allow_pickle=False)


@dataclass(frozen=True)
class TargetSources(Signal):
    """The (sub)task that each validation example is of, m names."""

    aims: ClassVar[bool] = True

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """Nothing but what it is; the examples themselves are in the key."""
        return {"signal": "target sources"}

    def build(self, folder: Path, source: Source) -> None:
        """Write them down."""
        write_array(folder / "sources.npy", np.array([row.source for row in source.targets]))

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The names of the examples' sources, m."""
        return np.load(folder / "sources.npy", allow_pickle=False)

    def work(self, source: Source) -> list[Work]:
        """None: nothing is read."""
        return []


def _named(pooling: Pooling) -> dict[str, Any]:
    return {} if pooling == "mean" else {"pooling": pooling}
