"""What is told of a model that this machine cannot hold: its shape says what it takes at least."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spice.models.device import memory
from spice.models.memory import Footprint
from spice.models.quantization import weight_bytes
from spice.pipeline.plan.probe import Speed

if TYPE_CHECKING:
    from torch import nn

    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.lora import Lora


@dataclass
class Shapes:
    """Sizes of checkpoints' weights, each asked for once; no weight is read."""

    accelerator: str
    known: dict[str, int] = field(default_factory=dict)

    def held(self, checkpoint: Checkpoint) -> int:
        """Bytes of a model's weights."""
        name = str(checkpoint)
        if name not in self.known:
            self.known[name] = weight_bytes(checkpoint.skeleton(), checkpoint.quantization)
        return self.known[name]

    def too_large(self, checkpoint: Checkpoint) -> bool:
        """Whether a probe would end for want of memory."""
        return self.held(checkpoint) > memory(self.accelerator)

    def speed(self, work: Work, extraction: Extraction, lora: Lora) -> Speed:
        """The weights and no more; no time, for nothing was measured."""
        checkpoint, size = work.tokenized.checkpoint, 1
        if work.kind == "gradients":
            adapted = extraction.attach(checkpoint.skeleton())
            size = extraction.projection or _trainable(adapted, "lora_B")  # see factors()
        elif work.kind == "training":
            size = _trainable(lora.attach(checkpoint.skeleton(), 0), "")
        nothing = Footprint(kept=1, recomputed=1, passing=1, cached=0, fixed=0)
        return Speed([1], [float("nan")], 0.0, self.held(checkpoint), nothing, size)


def _trainable(model: nn.Module, part: str) -> int:
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if p.requires_grad and part in name)
