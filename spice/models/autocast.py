"""A model's products in bfloat16, its weights and what goes from layer to layer as they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from spice.models.recompute import decoder_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

MARK = "spice_autocast"
#: what processors call their instructions for products in bfloat16
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def multiply_in_bfloat16(model: nn.Module) -> None:
    """Let the decoder's layers and the head multiply in bfloat16, under torch's autocast.

    Norms, softmax and sums stay in float32. A backward pass does as the forward pass did.
    """
    whole: Any = model  # an adapter hands this on to the model around which it is put
    for part in [*decoder_layers(model), whole.get_output_embeddings()]:
        if part is not None and not hasattr(part, MARK):
            part.forward = partial(_forward, part.forward)
            setattr(part, MARK, True)


def _forward(forward: Callable[..., Any], hidden: Any, *rest: Any, **named: Any) -> Any:
    import torch

    with torch.autocast(hidden.device.type, torch.bfloat16):
        return forward(hidden, *rest, **named)


def slow_here() -> str | None:
    """What is said of a processor that has no instructions for it; None where it has."""
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    if not capabilities or any(capabilities.get(name) for name in INSTRUCTIONS):
        return None
    return (
        "gradients.autocast=bfloat16: this processor has no instructions for bfloat16 "
        "(avx512_bf16 or amx_bf16), so that it takes longer than without"
    )
