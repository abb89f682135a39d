"""How to fine-tune; no torch here, so that a wrong option is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from spice.values import Count, Fraction, NonNegative, Positive, component

if TYPE_CHECKING:
    from spice.data.batches import TrainingPlan


@component
class Recipe:
    """How to fine-tune: AdamW, linear warm-up, decay to zero, gradient norm clipping.

    ``batch_size`` rows make one optimizer step, ``micro_batch_size`` of them at most are in memory
    at once, and fewer where these have no room (:mod:`spice.models.room`); the split changes
    nothing but rounding, since each step's loss is the mean over all its supervised tokens.
    ``max_steps`` cuts the run short of ``epochs``. A checkpoint to resume from is written every
    ``checkpoint_every`` steps.

    Raises:
        InputError: an option outside its range.
    """

    epochs: Count
    max_steps: Count | None
    learning_rate: Positive
    decay: Literal["cosine", "linear"]
    warmup_ratio: Fraction
    weight_decay: NonNegative
    clip: NonNegative
    batch_size: Count
    micro_batch_size: Count
    checkpoint_every: Count

    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome; how often a state is kept and what fits at once do not."""
        left_out = ("checkpoint_every", "micro_batch_size")
        return {name: v for name, v in asdict(self).items() if name not in left_out}

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
