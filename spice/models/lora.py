"""Low-rank adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from spice.errors import InputError
from spice.models.checkpoint import _first_line
from spice.values import Count, Name, Part, Some, Told, component

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@component
class Lora:
    """Low-rank adapters W + (α/r)·B·A on linear layers; B starts at zero (arXiv 2106.09685).

    Raises:
        InputError: an option outside its range.
    """

    r: Count
    alpha: Count
    dropout: Part
    targets: Annotated[Name | Some, Told("must be a name or a list of names")]

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
