"""What a model's shape tells by itself: its bytes, its work, and if a probe is worth trying."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from spice.models.device import device, memory
from spice.models.memory import Footprint
from spice.models.quantization import weight_bytes
from spice.models.recompute import decoder_layers
from spice.pipeline.plan.arithmetic import product_speed
from spice.pipeline.plan.probe import Speed, chosen

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from spice.data.batch_limit import BatchLimit
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.lora import Lora


PATIENCE = 300.0  # seconds that a probe of one kind of work may take
#: products of a token with all weights: forward, and then back through what LoRA's factors see
PASSES = {"forward": 1, "gradients": 2, "training": 2}


@dataclass(frozen=True)
class Shape:
    """Bytes of a model's weights, those that a process is ``spared``, and multiplied weights."""

    whole: int
    spared: int
    multiplied: int


@dataclass
class Shapes:
    """Sizes of checkpoints' weights, each asked for once; no weight is read.

    Layers are divided into so many ``parts``.
    """

    accelerator: str
    parts: int = 1
    known: dict[str, Shape] = field(default_factory=dict)

    def whole(self, checkpoint: Checkpoint) -> int:
        """Bytes of a model's weights."""
        return self._shape(checkpoint).whole

    def spared(self, checkpoint: Checkpoint) -> int:
        """Those that a process is without: other processes' parts of all layers but the open one's.

        0 where every process holds the whole model.
        """
        return self._shape(checkpoint).spared

    def held(self, checkpoint: Checkpoint) -> int:
        """Those that it has at a time."""
        return self.whole(checkpoint) - self.spared(checkpoint)

    def too_large(self, checkpoint: Checkpoint) -> bool:
        """Whether a probe, which holds all of it, would end for want of memory."""
        return self.whole(checkpoint) > memory(self.accelerator)

    def operations(self, checkpoint: Checkpoint, kind: str, tokens: float) -> float:
        """Those of so many tokens with the weights; what attention does beside is left out."""
        return 2.0 * PASSES[kind] * self._shape(checkpoint).multiplied * tokens

    def work(self, work: Work, limit: BatchLimit) -> float:
        """Those of all that it goes over."""
        return self.operations(work.tokenized.checkpoint, work.kind, work.tokens(limit))

    def alone(self, work: Work, limit: BatchLimit) -> bool:
        """Whether it has to tell by itself what some work takes, since no probe of it is tried."""
        rows, examples = chosen(work, limit), work.tokenized.examples
        tokens = sum(len(examples[row].ids) for batch in rows for row in batch)
        return self.untried(work.tokenized.checkpoint, work.kind, tokens)

    def untried(self, checkpoint: Checkpoint, kind: str, tokens: float) -> bool:
        """Whether a probe of so many tokens would take too much, of memory or of time."""
        return self.too_large(checkpoint) or self.too_slow(checkpoint, kind, tokens)

    def too_slow(self, checkpoint: Checkpoint, kind: str, tokens: float) -> bool:
        """Whether passes over so many tokens take longer than anybody waits for a plan.

        Never on a GPU.
        """
        if device(self.accelerator) != "cpu":
            return False
        return self.operations(checkpoint, kind, tokens) > PATIENCE * self.speed_here

    @cached_property
    def speed_here(self) -> float:
        """Operations a second that this machine does at best."""
        return product_speed()

    def _shape(self, checkpoint: Checkpoint) -> Shape:
        name = str(checkpoint)
        if name not in self.known:
            model = checkpoint.skeleton()
            layers = [sum(p.nbytes for p in layer.parameters()) for layer in decoder_layers(model)]
            others = sum(layers) * (self.parts - 1) // self.parts - max(layers, default=0)
            spared = max(others, 0) if self.parts > 1 else 0
            whole = weight_bytes(model, checkpoint.quantization)
            self.known[name] = Shape(whole, spared, _multiplied(model))
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


def _multiplied(model: PreTrainedModel) -> int:
    """Weights that each token is multiplied with: the matrices, no table that is looked up in."""
    from torch import nn

    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    inside = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in tables)
    head: nn.Module | None = model.get_output_embeddings()
    tied = [] if head is None else [p for p in head.parameters() if id(p) in tables]
    return inside + sum(p.numel() for p in tied)


def _trainable(model: nn.Module, part: str) -> int:
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if p.requires_grad and part in name)
