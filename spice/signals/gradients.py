"""Exact per-sample LoRA gradients of a whole padded batch, in one forward and one backward.

For a linear map y = W x applied at t positions, ∂L/∂W = Σ_t δ_t x_tᵀ with δ_t = ∂L/∂y_t. Rows of a
batch do not interact, so with L = Σ_b L_b the same sum, taken over the positions of one row, is
that row's own gradient. Hooks meet δ and x at each LoRA factor on the way back, and one product
per factor gives b gradients at once; no weight's own gradient is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spice.batches import Batch, response_nll
from spice.rendering import Example
from spice.selectors.kernel import Rows, Scaled, squared_norms
from spice.signals.extraction import Extraction
from spice.signals.passes import Pass, fill, open_store

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def factors(model: PeftModel) -> list[tuple[str, nn.Module]]:
    """The LoRA factors whose gradients make up g, in the model's order.

    A factor A whose partner B is zero is left out: ∂L/∂A = Bᵀ(…) is identically zero there, as it
    is for every freshly attached adapter, so these coordinates change no inner product.
    """
    found = []
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "lora_B"):
            for adapter in module.lora_A:
                a, b = module.lora_A[adapter], module.lora_B[adapter]
                if torch.count_nonzero(b.weight):
                    found.append((f"{name}.lora_A", a))
                found.append((f"{name}.lora_B", b))
    return found


def dimension(model: PeftModel) -> int:
    """d, the number of gradient coordinates."""
    return sum(module.weight.numel() for _, module in factors(model))  # type: ignore[misc, operator]


class _Collect(torch.autograd.Function):
    """The identity on y = W x that hands ∂L/∂y and x to ``add`` on the way back, and keeps neither.

    What is saved goes through autograd's own saving, so checkpointing may make x anew.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.add = add
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        ctx.add(delta, *ctx.saved_tensors)
        return delta, None, None


@contextmanager
def _collecting(
    model: PeftModel, add: Callable[[nn.Module, Tensor, Tensor], None]
) -> Iterator[list[Tensor]]:
    """Let a backward pass hand over each factor's δ and x; yields where it has to go back to.

    That is the embedded tokens, so that no weight's own gradient is made.
    """
    embedded: list[Tensor] = []

    def collect(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _Collect.apply(output, inputs[0], partial(add, module))

    def start(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        embedded.append(output if output.requires_grad else output.requires_grad_())
        return embedded[-1]

    handles = [module.register_forward_hook(collect) for _, module in factors(model)]
    handles.append(model.get_input_embeddings().register_forward_hook(start))
    try:
        yield embedded
    finally:
        for handle in handles:
            handle.remove()


def per_sample_gradients(model: PeftModel, batch: Batch, reduction: str) -> Tensor:
    """Gradients b × d (float32) of each row's response loss w.r.t. the LoRA factors.

    ``reduction`` ``mean`` averages a row's loss over its supervised tokens, ``sum`` adds it up. A
    row without supervised tokens has a zero gradient. The model should be in evaluation mode.
    """
    modules = [module for _, module in factors(model)]
    sizes = [module.weight.numel() for module in modules]  # type: ignore[operator]
    rows, device = len(batch["input_ids"]), batch["input_ids"].device
    gradients = torch.zeros(rows, sum(sizes), device=device)
    blocks = dict(zip(modules, gradients.split(sizes, dim=1), strict=True))

    def add(module: nn.Module, delta: Tensor, x: Tensor) -> None:
        block = torch.bmm(delta.float().transpose(1, 2), x.float())
        blocks[module] += block.flatten(start_dim=1)  # a layer may be used more than once

    with torch.enable_grad(), _collecting(model, add) as embedded:
        nll, count = response_nll(model, batch)
        loss = (nll / count.clamp(min=1)).sum() if reduction == "mean" else nll.sum()
        torch.autograd.grad(loss, embedded)
    return gradients


def eligible_rows(examples: Sequence[Example]) -> list[int]:
    """Rows with something to learn from."""
    return [i for i, example in enumerate(examples) if example.supervised]


def extract(
    base: PreTrainedModel,
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    *,
    folder: Path,
    metadata: dict[str, Any],
    pad_id: int,
    trainer: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Fill the store in ``folder`` with the gradients it lacks."""
    model = extraction.lora.attach(base, extraction.seed)
    rows, size = eligible_rows(examples), extraction.shard_rows
    store = open_store(folder, examples, rows, ids, metadata, size, dimension(model))
    fill(
        store,
        Pass(model, partial(per_sample_gradients, reduction=extraction.reduction)),
        examples,
        batch_size=extraction.batch_size,
        pad_id=pad_id,
        trainer=trainer,
        say=say,
    )


def read(
    folder: Path,
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    metadata: dict[str, Any],
) -> Rows:
    """A finished store's gradients n × d, at the scale that selection sees; they stay on disk."""
    rows = eligible_rows(examples)
    store = open_store(folder, examples, rows, ids, metadata, extraction.shard_rows)
    stored = store.rows()
    if extraction.scale == "raw":
        return stored
    return Scaled(stored, factors_of(stored, extraction.scale, extraction.clip_quantile))


def rescale(gradients: np.ndarray, scale: str, quantile: float) -> np.ndarray:
    """Gradients n × d at the scale that selection sees; see :func:`factors_of`."""
    if scale == "raw":
        return gradients
    return Scaled(gradients, factors_of(gradients, scale, quantile))[:]


def factors_of(gradients: Rows, scale: str, quantile: float) -> np.ndarray:
    """What each row is multiplied by.

    ``unit`` divides each by its norm (zero rows stay zero), ``clip`` shrinks those above the
    ``quantile`` of the pool's norms down to it.
    """
    norms = np.sqrt(squared_norms(gradients))
    if scale == "unit":
        target = np.where(norms > 0, 1.0, 0.0)
    else:
        finite = norms[np.isfinite(norms)]
        target = np.minimum(norms, np.quantile(finite, quantile)) if len(finite) else norms
    with np.errstate(invalid="ignore"):  # rows that are not finite stay so, and are left out later
        return np.divide(target, norms, out=np.zeros_like(norms), where=norms > 0)
