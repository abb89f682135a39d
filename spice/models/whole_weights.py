"""Layers in few bits multiply by the weights that their bits stand for.

bitsandbytes' own products depend on what else is in a batch (columns with outliers), on whether a
gradient is wanted and on the processor, and some have no way back. Here a row's result is its own,
in the precision of what comes in, and its gradient exact.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def layers(model: nn.Module) -> list[nn.Module]:
    """Those in few bits; none where bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        return []
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return [m for m in model.modules() if isinstance(m, Linear4bit | Linear8bitLt)]


def multiply_whole(model: nn.Module) -> None:
    """Let a model's layers in few bits multiply in full."""
    for layer in layers(model):
        layer.forward = partial(_forward, layer)


def whole(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """The weight that a layer's bits stand for, out × in."""
    weight: Any = layer.weight
    if hasattr(weight, "quant_state"):
        return _of_four_bits(weight.data, weight.quant_state).to(dtype)
    state: Any = layer.state
    scale = weight.SCB if weight.SCB is not None else state.SCB  # of each output, over 127 steps
    return weight.data.to(dtype) * (scale.to(dtype)[:, None] / 127)


def _of_four_bits(packed: Tensor, state: Any) -> Tensor:
    """bitsandbytes 0.50 takes it for granted on the CPU that a row of W is a number of blocks."""
    from bitsandbytes.functional import dequantize_4bit

    shape = torch.Size(state.shape)
    if shape[-1] % state.blocksize == 0:
        return dequantize_4bit(packed, state)
    state = copy(state)
    blocks, rest = divmod(shape.numel(), state.blocksize)
    state.shape = torch.Size((shape.numel(),) if rest else (blocks, state.blocksize))
    return dequantize_4bit(packed, state).view(shape)


def _forward(layer: Any, x: Tensor) -> Tensor:
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    y = _Product.apply(x, layer)
    return y if layer.bias is None else y + layer.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """y = W x that makes W anew on the way back: kept, it would be the whole model again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer = layer
        return x @ whole(layer, x.dtype).T

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None]:
        return delta @ whole(ctx.layer, delta.dtype), None
