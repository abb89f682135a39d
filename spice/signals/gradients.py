"""Exact per-sample LoRA gradients of a whole padded batch, in one forward and one backward.

For a linear map y = W x applied at t positions, ∂L/∂W = Σ_t δ_t x_tᵀ with δ_t = ∂L/∂y_t. Rows of a
batch do not interact, so with L = Σ_b L_b the same sum, taken over the positions of one row, is
that row's own gradient. Hooks record x and y at each LoRA factor, one ``autograd.grad`` gives all
δ, and one einsum per factor gives b gradients at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from spice.batches import Batch, PaddedBatches, length_order, response_nll
from spice.models import Checkpoint
from spice.rendering import Example
from spice.signals.extraction import Extraction
from spice.signals.store import ShardStore

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

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


class GradientExtraction(pl.LightningModule):
    """Reads per-sample gradients off a model, batch by batch."""

    def __init__(self, model: PeftModel, reduction: str) -> None:
        super().__init__()
        self.model = model.eval()
        self.reduction = reduction

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch's gradients, b × d."""
        return per_sample_gradients(self.model, batch, self.reduction)


class ShardWriter(BasePredictionWriter):
    """Collects predictions until a shard is whole, then publishes it."""

    def __init__(self, store: ShardStore) -> None:
        super().__init__(write_interval="batch")
        self.store = store
        self.waiting: dict[int, np.ndarray] = {}

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep one batch; write the shard if that was its last."""
        values = prediction.cpu().numpy()
        self.waiting.update(zip(batch["rows"], values, strict=True))
        shard = self.store.shard_of(batch["rows"][0])
        rows = self.store.plan[shard]
        if all(int(row) in self.waiting for row in rows):
            self.store.write(shard, np.stack([self.waiting.pop(int(row)) for row in rows]))


def shard_plan(examples: Sequence[Example], eligible: Sequence[int], size: int) -> list[np.ndarray]:
    """Rows of each shard: neighbours in length, the same for every batch size."""
    order = length_order(examples, eligible)
    return [order[i : i + size] for i in range(0, len(order), size)]


def missing_batches(
    store: ShardStore, examples: Sequence[Example], batch_size: int, pad_id: int
) -> DataLoader:
    """A loader over what the store lacks; no batch crosses a shard's edge."""
    batches = [
        [int(row) for row in store.plan[shard][i : i + batch_size]]
        for shard in store.missing()
        for i in range(0, len(store.plan[shard]), batch_size)
    ]
    return DataLoader(PaddedBatches(examples, batches, pad_id), batch_size=None)


def eligible_rows(examples: Sequence[Example]) -> list[int]:
    """Rows with something to learn from."""
    return [i for i, example in enumerate(examples) if example.supervised]


def extract(
    checkpoint: Checkpoint,
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
    model = extraction.lora.attach(checkpoint.load(), extraction.seed)
    store = _store(folder, extraction, examples, ids, metadata, dimension(model))
    store.check_space()
    missing, shards = store.missing(), len(store.plan)
    rows = sum(len(store.plan[shard]) for shard in missing)
    size = rows * store.dimension * 4 / 1e6
    say(f"{rows:,} rows × {store.dimension:,} coordinates, {size:,.0f} MB")
    if len(missing) < shards:
        say(f"{shards - len(missing)} of {shards} shards are there already")
    callbacks = [*trainer.get("callbacks", []), ShardWriter(store)]
    predicting = pl.Trainer(
        **{**trainer, "callbacks": callbacks},
        inference_mode=False,  # hooks need autograd
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    batches = missing_batches(store, examples, extraction.batch_size, pad_id)
    if len(batches):
        module = GradientExtraction(model, extraction.reduction)
        predicting.predict(module, batches, return_predictions=False)


def _store(
    folder: Path,
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    metadata: dict[str, Any],
    dimension: int,
) -> ShardStore:
    """Open the store; one that was begun with shards of another size keeps that size."""
    record = folder / "metadata.json"
    begun = json.loads(record.read_text()) if record.is_file() else {}
    size = begun.get("shard_rows", extraction.shard_rows)
    plan = shard_plan(examples, eligible_rows(examples), size)
    store = ShardStore(folder, {**metadata, "shard_rows": size}, ids, plan, dimension)
    store.open()
    return store


def read(
    folder: Path,
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    metadata: dict[str, Any],
) -> np.ndarray:
    """A finished store's gradients n × d, at the scale that selection sees."""
    dimension = json.loads((folder / "metadata.json").read_text())["dimension"]
    store = _store(folder, extraction, examples, ids, metadata, dimension)
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
