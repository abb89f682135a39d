"""A model's pass over many texts, kept shard by shard: what a crash leaves is gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from spice.data.batch_limit import BatchLimit
from spice.data.batches import Batch, PaddedBatches, length_order
from spice.data.rendering import Example
from spice.data.token_table import lengths
from spice.distributed import team
from spice.distributed.lightning import by_itself
from spice.errors import InputError
from spice.models.attention import prepare_attention
from spice.models.memory import Kind
from spice.models.room import Room
from spice.progress import Going, progress
from spice.storage import disk
from spice.storage.shards import ShardStore, about, shard_size

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spice.distributed.per_rank import PerRank

Read = Callable[[Any, Batch], "Tensor"]  # a model and a batch in, b × d out


class Pass(pl.LightningModule):
    """Reads something off a model, batch by batch; the model stays in evaluation mode."""

    def __init__(self, model: nn.Module, read: Read, room: Callable[[Any], Room]) -> None:
        super().__init__()
        self.model = model.eval()
        self.read = read
        self.room = room
        self.here: Room | None = None

    def setup(self, stage: str) -> None:
        """A process of its own knows nothing yet of how this model attends."""
        prepare_attention(self.model)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """What the batch's rows gave, b × d."""
        if self.here is None:  # only now is the model where its memory is
            self.here = self.room(self.model)
            self.here.say()
        return torch.cat(self.here.parts(partial(self.read, self.model), batch))


class ShardWriter(BasePredictionWriter):
    """Collects predictions until a shard is whole, then publishes it; ``tell`` hears of each."""

    def __init__(self, store: ShardStore, tell: Going) -> None:
        super().__init__(write_interval="batch")
        self.store = store
        self.tell = tell
        self.waiting: dict[int, tuple[np.ndarray, set[int]]] = {}  # a shard's values and lacks

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
        shard = self.store.shard_of(batch["rows"][0])
        rows = self.store.plan[shard].tolist()
        if shard not in self.waiting:
            empty = np.empty((len(rows), self.store.dimension), np.float32)
            self.waiting[shard] = empty, set(rows)
        values, lacking = self.waiting[shard]
        values[[rows.index(row) for row in batch["rows"]]] = prediction.cpu().numpy()
        lacking -= set(batch["rows"])
        if not lacking:
            self.store.write(shard, self.waiting.pop(shard)[0])
        self.tell(len(batch["rows"]), int(batch["attention_mask"].sum()))


def shard_plan(examples: Sequence[Example], eligible: Sequence[int], size: int) -> list[np.ndarray]:
    """The rows of each shard, m positions each, ``size`` at most.

    They are neighbours in length, the same for every batch size.
    """
    order = length_order(examples, eligible)
    return [order[i : i + size] for i in range(0, len(order), size)]


class Missing(pl.LightningDataModule):
    """Some shards of a store as padded batches; no batch crosses a shard's edge."""

    def __init__(
        self,
        store: ShardStore,
        shards: Sequence[int],
        examples: Sequence[Example],
        limit: BatchLimit,
        pad_id: int,
    ) -> None:
        super().__init__()
        self.shards = [store.plan[shard].tolist() for shard in shards]
        self.examples = examples
        self.limit = limit
        self.pad_id = pad_id

    def predict_dataloader(self) -> DataLoader:
        """Their batches."""
        batches = []
        for rows in self.shards:
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
    """The store in ``folder``; one that was begun keeps its shards' size and its dimension.

    A shard has at most ``shard_rows`` rows, and so many that it fits the memory beside a model.
    """
    begun = about(folder)
    width = begun["dimension"] if dimension is None else dimension
    size = begun.get("shard_rows", shard_size(shard_rows, width))
    plan = shard_plan(examples, eligible, size)
    store = ShardStore(folder, {**metadata, "shard_rows": size}, ids, plan, width, dtype)
    store.open()
    return store


def fill(
    store: ShardStore,
    model: PerRank[Any],
    read: Read,
    examples: Sequence[Example],
    *,
    limit: BatchLimit,
    kind: Kind,
    row: int = 0,
    pad_id: int,
    trainer: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Read what the store lacks off the model, each process its share of the shards.

    ``kind`` and ``row`` say what its passes need (:class:`spice.models.room.Room`).

    Every shard has one writer, and holds the same bytes whoever wrote it.

    Raises:
        InputError: a process does not see the folder of the store.
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
    room = partial(Room, limit=limit, kind=kind, row=row)
    team.everywhere(_read_share, store, missing, model, read, examples, room, pad_id, trainer)
    if lost := store.missing():
        raise RuntimeError(f"{store.folder}: {len(lost)} shards were not written")


def _read_share(
    store: ShardStore,
    missing: Sequence[int],
    model: PerRank[Any],
    read: Read,
    examples: Sequence[Example],
    room: partial[Room],
    pad_id: int,
    trainer: dict[str, Any],
    here: None,
) -> None:
    """This process's shards; more processes than shards leave some of them without."""
    if not store.folder.is_dir():
        raise InputError(
            f"cache_dir: process {team.rank()} does not see {store.folder}; several machines need "
            "a folder that they share"
        )
    made, mine = model(), team.share(missing)  # a divided model is loaded by all
    if not mine:
        return
    data = Missing(store, mine, examples, room.keywords["limit"], pad_id)
    rows = np.concatenate([store.plan[shard] for shard in mine])
    tokens = float(lengths(examples)[rows].sum())
    with progress("", len(rows), team.of_mine("rows"), tokens) as tell:
        callbacks = [*trainer.get("callbacks", []), ShardWriter(store, tell)]
        predicting = pl.Trainer(
            **by_itself({**trainer, "callbacks": callbacks}),
            default_root_dir=store.folder,
            inference_mode=False,  # per-sample gradients need autograd
            logger=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        predicting.predict(Pass(made, read, room), datamodule=data, return_predictions=False)
