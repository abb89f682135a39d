"""Low-rank adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spice.errors import InputError
from spice.models.checkpoint import _first_line

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters W + (α/r)·B·A on linear layers; B starts at zero (arXiv 2106.09685).

    Raises:
        InputError: an option outside its range.
    """

    r: int
    alpha: int
    dropout: float
    targets: str | tuple[str, ...]

    def __post_init__(self) -> None:
        if self.r < 1:
            raise InputError(f"lora.r={self.r}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"lora.dropout={self.dropout}: must be in [0, 1)")

    def attach(self, model: PreTrainedModel, seed: int) -> PeftModel:
        """Freeze the model and add trainable adapters, A drawn from ``seed``.

        Raises:
            InputError: the model has no such layers as ``targets``.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                return get_peft_model(model, config)
            except ValueError as error:  # no such layers
                raise InputError(f"lora.targets={targets}: {_first_line(error)}") from error
