"""Exact per-sample LoRA gradients of a whole padded batch, in one forward and one backward.

For a linear map y = W x applied at t positions, ∂L/∂W = Σ_t δ_t x_tᵀ with δ_t = ∂L/∂y_t. Rows of a
batch do not interact, so with L = Σ_b L_b the same sum, taken over the positions of one row, is
that row's own gradient. δ and x of each LoRA factor are met on the way back
(:mod:`spice.gradients.collecting`), and one product per factor gives b gradients at once; no
weight's own gradient is ever made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from spice.data.batches import Batch
from spice.errors import InputError
from spice.gradients.collecting import collecting, factors
from spice.gradients.projection import Sketch
from spice.models.loss import response_nll

FLOAT = 4  # bytes of a coordinate

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn


def dimension(model: PeftModel, sketch: Sketch | None = None) -> int:
    """d, the number of gradient coordinates that are kept."""
    if sketch:
        return sketch.size
    return sum(module.weight.numel() for _, module in factors(model))


def row_bytes(model: PeftModel, sketch: Sketch | None = None) -> int:
    """What a row's gradient takes while it is made, with a factor's product and its signs."""
    largest = max(module.weight.numel() for _, module in factors(model))
    return FLOAT * (dimension(model, sketch) + 3 * largest)


def per_sample_gradients(
    model: PeftModel, batch: Batch, reduction: str, sketch: Sketch | None = None
) -> Tensor:
    """Gradients b × d (float32) of each row's response loss w.r.t. the LoRA factors.

    ``reduction`` ``mean`` averages a row's loss over its supervised tokens, ``sum`` adds it up. A
    row without supervised tokens has a zero gradient. With a ``sketch`` factor after factor is
    projected as it is made, to d = ``sketch.size``. The model should be in evaluation mode.
    """
    (rows, tokens), device = batch["input_ids"].shape, batch["input_ids"].device
    named = factors(model)
    names = {module: name for name, module in named}
    sizes = [module.weight.numel() for module in names]
    gradients = torch.zeros(rows, sketch.size if sketch else sum(sizes), device=device)
    blocks = {} if sketch else dict(zip(names, gradients.split(sizes, dim=1), strict=True))

    def add(module: nn.Linear, delta: Tensor, x: Tensor) -> None:
        block = outer_products(delta, x, rows, tokens)
        if sketch:
            sketch.add(gradients, names[module], block)
        else:
            blocks[module] += block  # a layer may be used more than once

    with torch.enable_grad(), collecting(model, named, add) as anchor:
        torch.autograd.grad(response_loss(model, batch, reduction), anchor, allow_unused=True)
    return gradients


def outer_products(delta: Tensor, x: Tensor, rows: int, tokens: int) -> Tensor:
    """Σ_t δ_t x_tᵀ of each of b rows, in float32: b × (out · in) from b × t × out and b × t × in.

    A layer of a mixture of experts may see the b rows' t tokens one behind the other, as bt × in.

    Raises:
        InputError: it sees some of them, and which ones cannot be told.
    """
    delta, x = (_by_row(part, rows, tokens) for part in (delta, x))
    return torch.bmm(delta.float().transpose(1, 2), x.float()).flatten(start_dim=1)


def _by_row(values: Tensor, rows: int, tokens: int) -> Tensor:
    if values.ndim == 3 and len(values) == rows:
        return values
    if values.ndim == 2 and len(values) == rows * tokens:
        return values.unflatten(0, (rows, tokens))
    raise InputError(
        f"a layer under an adapter sees {list(values.shape)} of {rows} rows of {tokens} tokens, so "
        "that gradients cannot be told by row; leave it out of lora.targets"
    )


def response_loss(model: nn.Module, batch: Batch, reduction: str) -> Tensor:
    """The sum, a scalar, of b losses, each a mean or a sum over its row's supervised tokens."""
    nll, count = response_nll(model, batch)
    return (nll / count.clamp(min=1)).sum() if reduction == "mean" else nll.sum()


def sketched(gradients: Tensor, model: PeftModel, sketch: Sketch) -> Tensor:
    """n × p of ``gradients`` n × d: what :func:`per_sample_gradients` makes of the same rows."""
    named = factors(model)
    blocks = gradients.split([module.weight.numel() for _, module in named], dim=1)
    found = gradients.new_zeros(len(gradients), sketch.size)
    for (name, _), block in zip(named, blocks, strict=True):
        sketch.add(found, name, block)
    return found
