"""An adapter's weights put into the layers that it is on, where that leaves the model the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from spice.distributed import team
from spice.models.lora import on
from spice.models.whole_weights import layers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn


def merged(model: PeftModel) -> nn.Module:
    """The model without adapters, which computes the same; left as it is where none does.

    A weight that two layers share (lm_head's, where it is the embedding's) would be changed for
    both, but the adapter is on one of them. One in few bits would be rounded again, and one that is
    divided among processes is nobody's.
    """
    if team.is_divided() or shared_targets(model) or layers(model):
        return model
    return model.merge_and_unload()


def shared_targets(model: nn.Module) -> list[str]:
    """The layers under an adapter whose weight is another layer's, too."""
    uses = Counter(id(w) for module in model.modules() for w in module.parameters(recurse=False))
    layers: dict[str, nn.Module] = dict(model.named_modules())
    return [
        name
        for name in on(model)
        if any(uses[id(w)] > 1 for w in layers[f"{name}.base_layer"].parameters(recurse=False))
    ]
