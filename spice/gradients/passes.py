"""A model's pass over many texts, kept shard by shard: what a crash leaves is gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from spice.data.batch_limit import BatchLimit
from spice.data.batches import Batch, PaddedBatches, length_order
from spice.data.rendering import Example
from spice.models.attention import widen_narrow_heads
from spice.storage import disk
from spice.storage.shards import ShardStore, about

if TYPE_CHECKING:
    from torch import Tensor, nn

Read = Callable[[Any, Batch], "Tensor"]  # a model and a batch in, b × d out


class Pass(pl.LightningModule):
    """Reads something off a model, batch by batch; the model stays in evaluation mode."""

    def __init__(self, model: nn.Module, read: Read) -> None:
        super().__init__()
        self.model = model.eval()
        self.read = read

    def setup(self, stage: str) -> None:
        """A process of its own knows nothing yet of how this model attends."""
        widen_narrow_heads(self.model)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """What the batch's rows gave, b × d."""
        return self.read(self.model, batch)


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
        """Keep one batch's ``prediction``, b × d; write the shard if that was its last."""
        values = prediction.cpu().numpy()
        self.waiting.update(zip(batch["rows"], values, strict=True))
        shard = self.store.shard_of(batch["rows"][0])
        rows = self.store.plan[shard]
        if all(int(row) in self.waiting for row in rows):
            self.store.write(shard, np.stack([self.waiting.pop(int(row)) for row in rows]))


def shard_plan(examples: Sequence[Example], eligible: Sequence[int], size: int) -> list[np.ndarray]:
    """The rows of each shard, m positions each, ``size`` at most.

    They are neighbours in length, the same for every batch size.
    """
    order = length_order(examples, eligible)
    return [order[i : i + size] for i in range(0, len(order), size)]


class Missing(pl.LightningDataModule):
    """What a store lacks, as padded batches; no batch crosses a shard's edge.

    Of several devices each has whole shards to itself, so every shard has one writer, and holds the
    same bytes whoever wrote it.
    """

    def __init__(
        self, store: ShardStore, examples: Sequence[Example], limit: BatchLimit, pad_id: int
    ) -> None:
        super().__init__()
        self.shards = [store.plan[shard].tolist() for shard in store.missing()]
        self.examples = examples
        self.limit = limit
        self.pad_id = pad_id

    def predict_dataloader(self) -> DataLoader:
        """This device's batches."""
        assert self.trainer is not None
        batches = []
        for rows in self.shards[self.trainer.global_rank :: self.trainer.world_size]:
            lengths = [len(self.examples[row].ids) for row in rows]
            batches += [rows[part] for part in self.limit.cut(lengths)]
        return DataLoader(PaddedBatches(self.examples, batches, self.pad_id), batch_size=None)


def open_store(
    folder: Path,
    examples: Sequence[Example],
    eligible: Sequence[int],
    ids: Sequence[str],
    metadata: dict[str, Any],
    shard_rows: int,
    dtype: str,
    dimension: int | None = None,
) -> ShardStore:
    """The store in ``folder``; one that was begun keeps its shards' size and its dimension."""
    begun = about(folder)
    size = begun.get("shard_rows", shard_rows)
    width = begun["dimension"] if dimension is None else dimension
    plan = shard_plan(examples, eligible, size)
    store = ShardStore(folder, {**metadata, "shard_rows": size}, ids, plan, width, dtype)
    store.open()
    return store


def fill(
    store: ShardStore,
    module: Pass,
    examples: Sequence[Example],
    *,
    limit: BatchLimit,
    pad_id: int,
    trainer: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Read what the store lacks.

    Raises:
        RuntimeError: the pass came to its end, but some shards were not written.
    """
    store.check_space()
    missing, shards = store.missing(), len(store.plan)
    rows, size = sum(len(store.plan[shard]) for shard in missing), store.bytes_of(missing)
    say(f"{rows:,} rows × {store.dimension:,} coordinates, {disk.size(size)}")
    if len(missing) < shards:
        say(f"{shards - len(missing)} of {shards} shards are there already")
    if not missing:
        return
    several = trainer.get("devices", 1) not in (1, "auto")
    predicting = pl.Trainer(
        **{**trainer, "callbacks": [*trainer.get("callbacks", []), ShardWriter(store)]},
        default_root_dir=store.folder,
        strategy="ddp_spawn" if several else "auto",
        use_distributed_sampler=False,  # shards are shared out, not rows
        inference_mode=False,  # per-sample gradients need autograd
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    data = Missing(store, examples, limit, pad_id)
    predicting.predict(module, datamodule=data, return_predictions=False)
    if lost := store.missing():
        raise RuntimeError(f"{store.folder}: {len(lost)} shards were not written")
