"""What is told of a model that this machine cannot hold: its shape says what it takes at least."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spice.models.device import memory
from spice.models.memory import Footprint
from spice.models.quantization import weight_bytes
from spice.models.recompute import decoder_layers
from spice.pipeline.plan.probe import Speed

if TYPE_CHECKING:
    from torch import nn

    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.lora import Lora


@dataclass
class Shapes:
    """Sizes of checkpoints' weights, each asked for once; no weight is read.

    Layers are divided into so many ``parts``.
    """

    accelerator: str
    parts: int = 1
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    def whole(self, checkpoint: Checkpoint) -> int:
        """Bytes of a model's weights."""
        return self._sizes(checkpoint)[0]

    def spared(self, checkpoint: Checkpoint) -> int:
        """Those that a process is without: other processes' parts of all layers but the open one's.

        0 where every process holds the whole model.
        """
        return self._sizes(checkpoint)[1]

    def held(self, checkpoint: Checkpoint) -> int:
        """Those that it has at a time."""
        return self.whole(checkpoint) - self.spared(checkpoint)

    def too_large(self, checkpoint: Checkpoint) -> bool:
        """Whether a probe, which holds all of it, would end for want of memory."""
        return self.whole(checkpoint) > memory(self.accelerator)

    def _sizes(self, checkpoint: Checkpoint) -> tuple[int, int]:
        name = str(checkpoint)
        if name not in self.known:
            model = checkpoint.skeleton()
            layers = [sum(p.nbytes for p in layer.parameters()) for layer in decoder_layers(model)]
            others = sum(layers) * (self.parts - 1) // self.parts - max(layers, default=0)
            spared = max(others, 0) if self.parts > 1 else 0
            self.known[name] = weight_bytes(model, checkpoint.quantization), spared
        return self.known[name]

    def speed(self, work: Work, extraction: Extraction, lora: Lora) -> Speed:
        """The weights and no more; no time, for nothing was measured."""
        checkpoint, size = work.tokenized.checkpoint, 1
        if work.kind == "gradients":
            adapted = extraction.attach(checkpoint.skeleton())
            size = extraction.projection or _trainable(adapted, "lora_B")  # see factors()
        elif work.kind == "training":
            size = _trainable(lora.attach(checkpoint.skeleton(), 0), "")
        nothing = Footprint(kept=1, recomputed=1, passing=1, cached=0, fixed=0)
        return Speed([1], [float("nan")], 0.0, self.whole(checkpoint), nothing, size)


def _trainable(model: nn.Module, part: str) -> int:
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if p.requires_grad and part in name)
