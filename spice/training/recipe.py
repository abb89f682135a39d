"""How to fine-tune; no torch here, so that a wrong option is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from spice.errors import InputError

if TYPE_CHECKING:
    from spice.data.batches import TrainingPlan


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune: AdamW, linear warm-up, decay to zero, gradient norm clipping.

    ``decay`` is cosine or linear.

    ``batch_size`` rows make one optimizer step, ``micro_batch_size`` of them fit in memory at
    once; the split changes nothing but rounding, since each step's loss is the mean over all its
    supervised tokens. ``max_steps`` cuts the run short of ``epochs``. A checkpoint to resume from
    is written every ``checkpoint_every`` steps.

    Raises:
        InputError: an option outside its range.
    """

    epochs: int
    max_steps: int | None
    learning_rate: float
    decay: str
    warmup_ratio: float
    weight_decay: float
    clip: float
    batch_size: int
    micro_batch_size: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"finetune.{name}={getattr(self, name)}: must be at least 1")
        if self.max_steps is not None and self.max_steps < 1:
            raise InputError(f"finetune.max_steps={self.max_steps}: must be at least 1")
        if self.decay not in {"cosine", "linear"}:
            raise InputError(f"finetune.decay={self.decay}: must be cosine or linear")
        if not 0 <= self.warmup_ratio <= 1:
            raise InputError(f"finetune.warmup_ratio={self.warmup_ratio}: must be in [0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"finetune.learning_rate={self.learning_rate}: must be above 0")

    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome: how often a state is kept does not."""
        return {name: v for name, v in asdict(self).items() if name != "checkpoint_every"}

    def plan(self, rows: Sequence[int], seed: int) -> TrainingPlan:
        """The order in which the rows are seen."""
        from spice.data.batches import TrainingPlan  # keeps torch out of start-up

        return TrainingPlan(
            rows,
            epochs=self.epochs,
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            micro_batch_size=min(self.micro_batch_size, self.batch_size),
            seed=seed,
        )


def no_recipe() -> None:
    """What stands behind ``finetune=none``."""
