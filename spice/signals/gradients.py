"""Exact per-sample LoRA gradients of a whole padded batch, in one forward and one backward.

For a linear map y = W x applied at t positions, ∂L/∂W = Σ_t δ_t x_tᵀ with δ_t = ∂L/∂y_t. Rows of a
batch do not interact, so with L = Σ_b L_b the same sum, taken over the positions of one row, is
that row's own gradient. Hooks record x and y at each LoRA factor, one ``autograd.grad`` gives all
δ, and one einsum per factor gives b gradients at once.
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
from spice.signals.extraction import Extraction
from spice.signals.passes import Pass, fill, open_store

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    Call = tuple[nn.Module, Tensor, Tensor]  # a module, its input b × t × i, its output b × t × o


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


@contextmanager
def _recording(modules: list[nn.Module]) -> Iterator[list[Call]]:
    """Record each call of the modules during a forward pass."""
    calls: list[Call] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0].detach(), output))

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield calls
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
    with torch.enable_grad():
        with _recording(modules) as calls:
            nll, count = response_nll(model, batch)
        loss = (nll / count.clamp(min=1)).sum() if reduction == "mean" else nll.sum()
        deltas = torch.autograd.grad(loss, [output for _, _, output in calls])
    gradients = torch.zeros(len(nll), sum(sizes), device=nll.device)
    blocks = dict(zip(modules, gradients.split(sizes, dim=1), strict=True))
    for (module, x, _), delta in zip(calls, deltas, strict=True):
        block = torch.einsum("bto,bti->boi", delta.float(), x.float())
        blocks[module] += block.flatten(start_dim=1)  # a layer may be used more than once
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
) -> np.ndarray:
    """A finished store's gradients n × d, at the scale that selection sees."""
    rows = eligible_rows(examples)
    store = open_store(folder, examples, rows, ids, metadata, extraction.shard_rows)
    return rescale(store.read(), extraction.scale, extraction.clip_quantile)


def rescale(gradients: np.ndarray, scale: str, quantile: float) -> np.ndarray:
    """Bring gradients n × d to the scale that selection sees.

    ``raw`` leaves them, ``unit`` divides each by its norm (zero rows stay zero), ``clip`` shrinks
    those above the ``quantile`` of the pool's norms down to it.
    """
    if scale == "raw":
        return gradients
    norms = np.sqrt(np.einsum("nd,nd->n", gradients, gradients, dtype=np.float64))
    if scale == "unit":
        target = np.where(norms > 0, 1.0, 0.0)
    else:
        finite = norms[np.isfinite(norms)]
        target = np.minimum(norms, np.quantile(finite, quantile)) if len(finite) else norms
    factor = np.divide(target, norms, out=np.zeros_like(norms), where=norms > 0)
    with np.errstate(invalid="ignore"):  # rows that are not finite stay so, and are left out later
        return gradients * factor[:, None].astype(gradients.dtype)
