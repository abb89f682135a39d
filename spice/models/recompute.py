"""A decoder's layers: where activations are let go of, and where a backward pass can pause."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

LIMIT = "spice_recomputed_above"  # a layer's attribute: a number of tokens


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The model's blocks, in order; a model may use one twice."""
    from torch.nn import ModuleList

    whole: Any = model  # an adapter hands this on to the model around which it is put
    lists = (child for child in whole.get_decoder().children() if isinstance(child, ModuleList))
    return list(next(lists, []))


def recompute_long_batches(model: nn.Module, tokens: int) -> None:
    """Let layers keep only their input for batches of more than ``tokens``, padding included.

    What they would have kept is computed once more on the way back (Chen et al. 2016, arXiv
    1604.06174). Nothing else changes, to the bit: dropout draws what it drew before.
    """
    for layer in decoder_layers(model):
        if not hasattr(layer, LIMIT):
            layer.forward = partial(_forward, layer, layer.forward)
        setattr(layer, LIMIT, tokens)


def _forward(layer: Any, forward: Callable[..., Any], hidden: Any, *rest: Any, **named: Any) -> Any:
    import torch
    from torch.utils.checkpoint import checkpoint

    if torch.is_grad_enabled() and hidden.shape[:2].numel() > getattr(layer, LIMIT):
        return checkpoint(forward, hidden, *rest, use_reentrant=False, **named)
    return forward(hidden, *rest, **named)
