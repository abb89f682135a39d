"""LoRA fine-tuning on the chosen rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from spice import stopping
from spice.data.batch_limit import BatchLimit
from spice.data.batches import IDLE, Batch, Dealt, MicroBatches, TrainingPlan
from spice.data.rendering import Example
from spice.data.token_table import lengths
from spice.distributed import team
from spice.distributed.lightning import by_itself
from spice.messages import warn
from spice.models.dropout import drawn_by_row, seed_of
from spice.models.in_parts import Slopes, learnt_nll
from spice.models.loss import NonFiniteLossError, check_finite
from spice.models.room import Room
from spice.progress import Going, progress
from spice.storage.files import publish_folder
from spice.storage.seals import is_whole_checkpoint
from spice.training.checkpoints import SaveWhenStopped, WholeFiles
from spice.training.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel

    from spice.distributed.per_rank import PerRank

CHECKPOINT = Path("checkpoints/last.ckpt")  # what an interrupted tuning goes on from


class FineTuning(pl.LightningModule):
    """Trains the adapter of ``model``; the base stays frozen and is not part of checkpoints.

    ``loss`` is the mean of the last micro-batch, None before there was one.
    """

    def __init__(
        self,
        model: PeftModel,
        recipe: Recipe,
        plan: TrainingPlan,
        dealt: Dealt,
        examples: Sequence[Example],
        seed: int,
        tell: Going,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.plan = plan
        self.dealt = dealt
        self.examples = examples
        self.seed = seed
        self.tell = tell
        self.strict_loading = False  # checkpoints hold the adapter alone
        self.loss: torch.Tensor | float | None = None
        self.room: Room | None = None
        drawn_by_row(model)
        self.slopes = Slopes(model)
        self.step_tokens = [sum(examples[row].supervised for row in step) for step in plan.steps]

    def on_train_start(self) -> None:
        """Lightning leaves pretrained modules in evaluation mode; dropout needs the other."""
        self.model.train()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Go back from a micro-batch; what Lightning goes back from is zero, a scalar.

        Dropout is drawn from the seed and a row's place in the plan, so that a resumed run repeats
        what an uninterrupted one would have done, several processes what one would have, and
        micro-batches are split as memory asks.
        """
        if batch["number"] != IDLE:
            self._learn(batch, batch["number"])
            self.tell(len(batch["rows"]), int(batch["attention_mask"].sum()))
        return sum(weight.sum() for weight in self.slopes.weights) * 0.0  # type: ignore[return-value]

    def _learn(self, batch: Batch, number: int) -> None:
        if self.room is None:  # only now is the model where its memory is
            self.room = Room(self.model, BatchLimit(self.recipe.micro_batch_size), "learning")
            self.room.say()
        torch.manual_seed(self.seed * 1_000_003 + number)  # of what is not drawn by row
        seeds = self._seeds(number)
        nll, count = learnt_nll(self.model, batch, self.room, seeds, self.slopes)
        check_finite(nll, batch, f"step {self.plan.step_of[number] + 1}")
        self.loss = nll.sum() / count.sum()
        self.log("train/loss", self.loss, batch_size=len(batch["rows"]))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradient of the step's mean loss over supervised tokens, before it is clipped."""
        self.slopes.hand_over(self.step_tokens[self.trainer.global_step])

    def _seeds(self, number: int) -> list[int]:
        """Of each of a micro-batch's rows, by its place in its step."""
        step, size = self.plan.step_of[number], len(self.plan.batches[number])
        first = number - self.plan.step_of.index(step)
        start = first * len(self.plan.batches[number - first])
        root = self.seed, step
        return [seed_of(*root, place) for place in range(start, start + size)]

    def configure_optimizers(self) -> Any:
        """AdamW on the adapter, with the schedule stepped once per optimizer step."""
        optimizer = torch.optim.AdamW(
            self.slopes.weights,
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        total = len(self.plan.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: pace(step, total, self.recipe)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The trainable parameters under their own names, which loading expects."""
        return {
            name: parameter.detach()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that has nothing left to do still tells its loss."""
        checkpoint["loss"] = None if self.loss is None else float(self.loss)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Skip what the interrupted run had already seen, as many processes as it may have had.

        Lightning goes on counting micro-batches where the checkpoint left off.
        """
        self.loss = checkpoint["loss"]
        self.dealt.start = checkpoint["global_step"] * self.dealt.accumulate
        self.tell.skip(*amount(self.plan, self.dealt.numbers[: self.dealt.start], self.examples))
        seen = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        more = self.dealt.start - seen["ready"]
        seen.update({name: count + more for name, count in seen.items()})


def amount(
    plan: TrainingPlan, numbers: Sequence[int], examples: Sequence[Example]
) -> tuple[int, float]:
    """Rows and tokens of the micro-batches with some numbers."""
    rows = [row for number in numbers if number != IDLE for row in plan.batches[number]]
    return len(rows), float(lengths(examples)[np.array(rows, dtype=np.int64)].sum())


def learning_rates(recipe: Recipe, total: int) -> list[float]:
    """The rate of each of ``total`` optimizer steps."""
    return [recipe.learning_rate * pace(step, total, recipe) for step in range(total)]


def pace(step: int, total: int, recipe: Recipe) -> float:
    """The learning rate's factor at ``step`` (from 0): linear up to 1, then down to 0."""
    warmup = math.ceil(recipe.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return 1 - progress if recipe.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def finetune(
    model: PerRank[PeftModel],
    recipe: Recipe,
    examples: Sequence[Example],
    rows: Sequence[int],
    *,
    folder: Path,
    pad_id: int,
    seed: int,
    trainer: dict[str, Any],
) -> dict[str, Any]:
    """Train on ``examples[row]`` for each of ``rows`` and save ``folder/adapter``.

    ``folder/checkpoints`` is where an interrupted run left its state. It is resumed from, by as
    many processes as there are now, and to be removed once the caller is done. ``trainer`` holds
    further arguments of Lightning's Trainer; its callbacks and loggers are the run's alone.

    Raises:
        Stopped: a signal asked for it; the last whole step is saved.
        NonFiniteLossError: a loss, or what the last step left, is NaN or infinite.
    """
    plan = recipe.plan(rows, seed)
    _tell_idle(plan, recipe)
    own = {name: trainer[name] for name in ("callbacks", "logger") if name in trainer}
    shared = {name: value for name, value in trainer.items() if name not in own}
    losses = team.everywhere(
        _train, model, recipe, plan, examples, folder, pad_id, seed, shared, here=own
    )
    if not all(p.isfinite().all() for p in model().parameters() if p.requires_grad):
        raise NonFiniteLossError(f"step {len(plan.steps)}", plan.steps[-1])
    publish_folder(folder / "adapter", lambda partial: model().save_pretrained(str(partial)))
    last = plan.step_of.count(len(plan.steps) - 1) - 1  # of the last step's micro-batches
    final = losses[last % len(losses)]
    return {"steps": len(plan.steps), "rows": len(rows), "final_loss": final}


def _tell_idle(plan: TrainingPlan, recipe: Recipe) -> None:
    if plan.accumulate < team.size():
        told = f"{plan.accumulate} micro-batches a step for {team.size()} processes"
        part = -(-recipe.batch_size // team.size())
        warn("finetune", f"{told}: some have nothing to do; finetune.micro_batch_size={part}")


def _train(
    made: PerRank[PeftModel],
    recipe: Recipe,
    plan: TrainingPlan,
    examples: Sequence[Example],
    folder: Path,
    pad_id: int,
    seed: int,
    shared: dict[str, Any],
    here: dict[str, Any] | None,
) -> float | None:
    """This process's part of every step; the loss of its last micro-batch."""
    dealt = Dealt(plan, team.rank(), team.size())
    options = {"logger": False} if here is None else here
    fitting = _fitting(recipe, dealt, folder, {**shared, **options})
    last = folder / CHECKPOINT
    resumed = str(last) if is_whole_checkpoint(last) else None
    batches = MicroBatches(examples, plan.batches, pad_id)
    loader = DataLoader(batches, batch_size=None, sampler=dealt)
    rows, tokens = amount(plan, dealt.numbers, examples)
    with progress("", rows, team.of_mine("rows"), tokens) as tell, stopping.deferred():
        module = FineTuning(made(), recipe, plan, dealt, examples, seed, tell)
        fitting.fit(module, loader, ckpt_path=resumed, weights_only=True)
    return None if module.loss is None else float(module.loss)


def reached(folder: Path) -> int:
    """The optimizer steps that a tuning in ``folder`` would go on from; 0 for a fresh start."""
    last = folder / CHECKPOINT
    if not is_whole_checkpoint(last):
        return 0
    return torch.load(last, map_location="cpu", weights_only=True)["global_step"]


def _fitting(recipe: Recipe, dealt: Dealt, folder: Path, options: dict[str, Any]) -> pl.Trainer:
    """Lightning's Trainer for one pass through the plan; the run's keeps what it goes on from."""
    checkpoints = (folder / CHECKPOINT).parent
    keeper = ModelCheckpoint(
        dirpath=checkpoints,
        filename="last",
        every_n_train_steps=recipe.checkpoint_every,
        enable_version_counter=False,
    )
    saver = SaveWhenStopped(folder / CHECKPOINT)
    keeping = [keeper, saver] if team.is_first() else []
    callbacks = [*options.get("callbacks", []), *keeping]
    return pl.Trainer(
        **by_itself({**options, "callbacks": callbacks, "plugins": [WholeFiles()]}),
        default_root_dir=checkpoints,
        max_epochs=1,
        accumulate_grad_batches=dealt.accumulate,
        gradient_clip_val=recipe.clip,
        enable_checkpointing=team.is_first(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
