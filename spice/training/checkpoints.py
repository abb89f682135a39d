"""A training's state on disk: each file whole or not there, and one more when it is to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from spice import stopping
from spice.storage.files import publish


class WholeFiles(TorchCheckpointIO):
    """Checkpoints beside their place, then renamed; Lightning moves them over from ``/tmp``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        publish(Path(path), lambda partial: torch.save(checkpoint, partial))


class SaveWhenStopped(pl.Callback):
    """Ends a training that was asked to stop behind a whole step, with that step saved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning ends at SIGTERM behind any micro-batch, unsaved."""
        self.step = trainer.global_step
        stopping.hear_first()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Within a step the gradients of its micro-batches would be lost."""
        whole, self.step = trainer.global_step > self.step, trainer.global_step
        if whole and stopping.asked():
            trainer.save_checkpoint(self.path)
            stopping.obey()
