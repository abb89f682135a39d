"""What fine-tuning leaves behind after its epochs, for those who look back at its course."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from spice.storage import tensors
from spice.storage.files import publish


class EpochKeeper(pl.Callback):
    """Keeps the adapter and Adam's moments, by parameter name, after given optimizer steps."""

    def __init__(self, folder: Path, ends: Sequence[int]) -> None:
        self.folder = folder
        self.ends = list(ends)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Write ``epoch-<i>.safetensors`` where step ``ends[i]`` is done."""
        if trainer.global_step not in self.ends:
            return
        path = self.folder / f"epoch-{self.ends.index(trainer.global_step)}.safetensors"
        if tensors.is_whole(path):
            return
        [optimizer], kept = trainer.optimizers, {}
        model: Any = pl_module.model
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kept[name] = parameter.detach()
                for moment in ("exp_avg", "exp_avg_sq"):
                    kept[f"{name}.{moment}"] = optimizer.state[parameter][moment]
        publish(path, lambda partial: tensors.save_torch(kept, partial))
