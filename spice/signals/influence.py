"""LESS's gradient features: what a step on each row would do to examples that are aimed at.

Three things come together (arXiv 2402.04333): a short warm-up whose every epoch leaves a checkpoint
and its Adam state; the direction that Adam would take for each row at each checkpoint; and the
plain gradients of the examples there. Both sides go through one random projection.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spice.data.token_table import eligible_rows
from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients import work
from spice.models.lora import Lora
from spice.progress import counted
from spice.signals.base import Signal
from spice.signals.experience import drawn_rows
from spice.storage import tensors
from spice.storage.coding import FLOAT32
from spice.storage.files import read_json, write_array, write_json
from spice.training.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from spice.data.batch_limit import BatchLimit
    from spice.data.rendering import Example
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.signals.adam_features import Features
    from spice.signals.source import Source

#: what the table is made from
LED_TO_IT = ("epoch-*", "cosines-*", "adapter*", "checkpoints")


@dataclass(frozen=True)
class Influence(Signal):
    """Σ_i η̄_i · mean over a subtask's examples v of cos(Γ_i(z), ∇ℓ_i(v)), n × subtasks.

    i runs over the warm-up's epochs, η̄_i is the mean learning rate of epoch i, scaled to Σ = 1.
    ``share`` of the rows is warmed up on with ``lora`` and ``recipe``; features are projected to
    ``projection`` coordinates. ``seed`` draws the rows, the adapter and the projection.
    """

    share: float
    lora: Lora
    recipe: Recipe
    projection: int
    seed: int
    aims: ClassVar[bool] = True

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """All its options, and how a row's loss is put together."""
        options = dataclasses.asdict(self)
        return {"signal": "influence", "reduction": extraction.reduction, **options}

    def build(self, folder: Path, source: Source) -> None:
        """Warm up, read both sides at every checkpoint, write the table, then clear the rest away.

        A kill while it is cleared away costs the table: what is left is verified, and made again.

        Raises:
            InputError: none of the validation examples fits the proxy's context.
        """
        total, names = self._table(folder, source)
        write_array(folder / "influence.npy", total)
        write_json(folder / "subtasks.json", names)
        for path in [path for name in LED_TO_IT for path in folder.glob(name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _table(self, folder: Path, source: Source) -> tuple[np.ndarray, list[str]]:
        """Influence of n rows on each subtask, and the subtasks' names."""
        from spice.signals.adam_features import features_at  # keeps torch out of start-up

        tokenized, extraction = source.tokenized, source.extraction
        rows = eligible_rows(tokenized.examples)
        subtasks, aims = _aims(source)
        adapted = PerRank(partial(self._adapted, tokenized.checkpoint))
        rates = self._warm_up(adapted, source, rows, folder)
        names = sorted(set(subtasks))
        membership = np.array([[s == name for name in names] for s in subtasks], dtype=np.float64)
        membership /= membership.sum(axis=0)
        total = np.zeros((len(tokenized.examples), len(names)))
        for epoch, rate in counted(list(enumerate(rates)), "", "checkpoints"):
            source.say(f"checkpoint {epoch + 1} of {len(rates)}")
            path = folder / f"epoch-{epoch}.safetensors"
            at = path, adapted, self.projection, self.seed, extraction.reduction
            read = PerRank(partial(features_at, *at))
            how = aims, extraction.batch_limit, tokenized.pad_id, source.trainer
            aimed = team.everywhere(_plain, read, *how)[0]
            found = _cosines(read, aimed, source, rows, folder / f"cosines-{epoch}")
            total += rate * found.astype(np.float64) @ membership
        return total, names

    def _adapted(self, checkpoint: Checkpoint) -> PeftModel:
        return self.lora.attach(checkpoint.load(), self.seed)

    def work(self, source: Source) -> list[Work]:
        """The warm-up, then the gradients of both sides at each of its checkpoints."""
        tokenized, epochs = source.tokenized, self.recipe.epochs
        targets = tokenized.renderer.encode(source.targets)
        return [
            work.training(tokenized, self.recipe, self.share * len(source.rows)),
            work.gradients(tokenized, tokenized.examples, epochs),
            work.gradients(tokenized, targets, epochs),
        ]

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The table as a structured array: one named column per subtask."""
        values = np.load(folder / "influence.npy", allow_pickle=False)
        names = read_json(folder / "subtasks.json")
        return np.rec.fromarrays(values.T, names=names) if len(names) else values

    def _warm_up(
        self, model: PerRank[PeftModel], source: Source, rows: Sequence[int], folder: Path
    ) -> list[float]:
        """Train on a share of the rows; each epoch's mean learning rate, scaled to Σ = 1."""
        from spice.training.epochs import EpochKeeper
        from spice.training.finetune import finetune, learning_rates, reached

        drawn = drawn_rows(source.ids, rows, self.share, self.seed)
        ends = epoch_ends(len(drawn), self.recipe)
        lost = [end for epoch, end in enumerate(ends)
                if not tensors.is_whole(folder / f"epoch-{epoch}.safetensors")]  # fmt: skip
        if lost:
            if reached(folder) >= lost[0]:  # going on from there would pass by that epoch's end
                shutil.rmtree(folder / "checkpoints")
            source.say(f"warming up on {len(drawn)} rows, {self.recipe.epochs} epochs")
            keeper, trainer = EpochKeeper(folder, ends), source.trainer
            finetune(
                model,
                self.recipe,
                source.tokenized.examples,
                drawn,
                folder=folder,
                pad_id=source.tokenized.pad_id,
                seed=self.seed,
                trainer={
                    **trainer,
                    "callbacks": [*trainer.get("callbacks", []), keeper],
                    "logger": False,
                },
            )
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        rates = learning_rates(self.recipe, ends[-1])
        means = [float(np.mean(rates[a:b])) for a, b in zip([0, *ends], ends, strict=False)]
        return [mean / sum(means) for mean in means]


def _aims(source: Source) -> tuple[list[str], list[Example]]:
    """The validation examples that fit, and the subtask of each."""
    encoded = zip(source.targets, source.tokenized.renderer.encode(source.targets), strict=True)
    pairs = [(target.source, example) for target, example in encoded if example.supervised]
    if not pairs:
        raise InputError("none of the validation examples fits the proxy's context")
    return [subtask for subtask, _ in pairs], [example for _, example in pairs]


def _cosines(
    read: PerRank[Features], aimed: Tensor, source: Source, rows: Sequence[int], folder: Path
) -> np.ndarray:
    """cos(Γ(z), ∇ℓ(v)) of the pool's rows with m examples at one checkpoint, n × m."""
    from spice.gradients.passes import fill, open_store
    from spice.signals.adam_features import cosines

    tokenized, extraction = source.tokenized, source.extraction
    store = open_store(
        folder, tokenized.examples, rows, source.ids, source.key, extraction.shard_rows, FLOAT32,
        len(aimed),
    )  # fmt: skip
    fill(
        store,
        PerRank(partial(_model_of, read)),
        partial(cosines, features=read, aimed=aimed),
        tokenized.examples,
        limit=extraction.batch_limit,
        kind="learning",
        row=read().row_bytes(),
        pad_id=tokenized.pad_id,
        trainer=source.trainer,
        say=source.say,
    )
    return store.read()


def _plain(
    read: PerRank[Features],
    aims: Sequence[Example],
    limit: BatchLimit,
    pad_id: int,
    trainer: dict[str, Any],
    here: None,
) -> Tensor:
    """Few enough for every process to read them all, as one that divides the model has to."""
    return read().plain(aims, limit, pad_id, trainer).cpu()


def _model_of(read: PerRank[Features]) -> PeftModel:
    return read().model


def epoch_ends(rows: int, recipe: Recipe) -> list[int]:
    """The optimizer step that ends each epoch; a step may hold the end of one and more."""
    ends = [math.ceil(e * rows / recipe.batch_size) for e in range(1, recipe.epochs + 1)]
    return sorted({end for end in ends if recipe.max_steps is None or end <= recipe.max_steps})
