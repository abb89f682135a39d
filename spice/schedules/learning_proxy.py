"""A proxy that learns while it is chosen from, and loses nothing when it is killed."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytorch_lightning as pl
import torch

from spice.data.batch_limit import BatchLimit
from spice.data.batches import Batch, pad
from spice.data.rendering import Example
from spice.distributed import team
from spice.distributed.lightning import by_itself
from spice.gradients.per_sample import row_bytes
from spice.models.dropout import drawn_by_row, seed_of
from spice.models.in_parts import Slopes, learnt_nll
from spice.models.loss import check_finite, response_nll
from spice.models.room import Room
from spice.progress import Going, progress
from spice.storage.seals import publish_sealed, read_sealed

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.utils.data import DataLoader

    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint


class LearningProxy(pl.LightningModule):
    """An adapted proxy under AdamW at a constant rate, stepped by hand.

    ``folder`` keeps adapter, optimizer and what a subclass notes of its progress: a run that was
    killed takes up the last :meth:`save` as if nothing had happened.

    Of several processes each has the same proxy and takes the same steps; what these are made of
    is shared out by batches, and put together to what one process would have found.
    """

    def __init__(
        self,
        model: PeftModel,
        examples: Sequence[Example],
        *,
        learning_rate: float,
        weight_decay: float,
        limit: BatchLimit,
        folder: Path,
        pad_id: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        drawn_by_row(model)
        self.model = model.eval()
        self.slopes = Slopes(model)
        self.examples = examples
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.limit = limit
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.pad_id = pad_id
        self.seed = seed
        self.tell: Going  # while it is gone through
        self._optimizer_state: dict[str, Any] | None = None

    @classmethod
    def attached(
        cls, extraction: Extraction, checkpoint: Checkpoint, *rest: Any, **more: Any
    ) -> Self:
        """One with a fresh adapter, as each process makes it for itself."""
        return cls(extraction.attach(checkpoint.load()), *rest, **more)

    def train_dataloader(self) -> DataLoader:
        """What is left to be done."""
        raise NotImplementedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on the adapter at a constant rate."""
        optimizer = torch.optim.AdamW(
            self.adapter().values(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        return optimizer

    def on_train_start(self) -> None:
        """What is read is read in evaluation mode, whatever Lightning likes."""
        self.model.eval()

    @functools.cached_property
    def room(self) -> Room:
        """What a batch may hold, once the model is where its memory is."""
        return Room(self.model, self.limit, "learning", row_bytes(self.model))

    def adapter(self) -> dict[str, torch.nn.Parameter]:
        """The trainable parameters by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def learn(self, rows: Sequence[int], number: int, where: str) -> None:
        """One optimizer step on the mean loss over all tokens of some rows; ``number`` seeds it.

        ``where`` is what the step is called if its loss is not finite.
        """
        tokens = sum(self.examples[row].supervised for row in rows)
        self.model.train()
        for place, batch in self._batches(rows):
            seeds = [seed_of(self.seed, number, place, row) for row in range(len(batch["rows"]))]
            nll, _ = learnt_nll(self.model, batch, self.room, seeds, self.slopes)
            check_finite(nll, batch, where)
        self.model.eval()
        self.slopes.hand_over(tokens)
        optimizer: Any = self.optimizers()
        optimizer.step()
        optimizer.zero_grad()

    def losses(self, rows: Sequence[int], where: str) -> np.ndarray:
        """The mean loss of each of b rows over its response, as the proxy is now; b numbers."""
        found = {}
        with torch.no_grad():
            for place, batch in self._batches(rows):
                nll, count = (
                    torch.cat(parts)
                    for parts in zip(
                        *self.room.parts(partial(response_nll, self.model), batch), strict=True
                    )
                )
                check_finite(nll, batch, where)
                found[place] = (nll / count).double().cpu().numpy()
        together = {place: part for mine in team.gather(found) for place, part in mine.items()}
        return np.concatenate([together[place] for place in sorted(together)])

    def _batches(self, rows: Sequence[int]) -> Iterator[tuple[int, Batch]]:
        """This process's share of the batches, each with its place among all."""
        starts = range(0, len(rows), self.limit.rows)
        for place in team.share(range(len(starts))):
            part = rows[starts[place] : starts[place] + self.limit.rows]
            batch = pad(self.examples, part, self.pad_id)
            yield place, self.transfer_batch_to_device(batch, self.device, 0)

    # -- what a killed run leaves ----------------------------------------------------------

    def save(self, progress: dict[str, Any]) -> None:
        """Keep the adapter, the optimizer, and how far the run has come (numbers and tensors)."""
        if not team.is_first():
            return
        optimizer: Any = self.optimizers()
        state = {
            "progress": progress,
            "adapter": {n: p.detach().cpu() for n, p in self.adapter().items()},
            "optimizer": optimizer.optimizer.state_dict(),
        }
        publish_sealed(self.folder / "state.pt", lambda path: torch.save(state, path))

    def resume(
        self, usable: Callable[[dict[str, Any]], bool] = lambda progress: True
    ) -> dict[str, Any] | None:
        """Take up what was kept; returns its progress, None for a fresh start.

        What is damaged, or not ``usable`` by its progress, is not taken up.
        """
        kept = read_sealed(self.folder / "state.pt")
        if kept is None:
            return None
        state = torch.load(io.BytesIO(kept), weights_only=True)
        if not usable(state["progress"]):
            return None
        self._optimizer_state = state["optimizer"]
        with torch.no_grad():
            for name, parameter in self.adapter().items():
                parameter.copy_(state["adapter"][name])
        return state["progress"]


def go_through(
    module: LearningProxy, trainer: dict[str, Any], done: int, total: int, unit: str
) -> None:
    """Do what is left, under Lightning; ``done`` units of ``total`` are."""
    fitting = pl.Trainer(
        **by_itself(trainer),
        default_root_dir=module.folder,
        max_epochs=1,
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with progress("", total, unit) as module.tell:
        module.tell.skip(done)
        fitting.fit(module)
