"""How Lightning is to use the machine."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, Literal

from spice.errors import InputError
from spice.models.quantization import silence
from spice.values import Count, component


@component
class Machine:
    """What stands behind ``trainer=``: Lightning's accelerator, devices and precision.

    ``precision`` auto is bf16-mixed where a GPU has it, else 32-true; it is fine-tuning's alone,
    gradients are always accumulated in float32. ``progress`` shows bars with rate and time left.

    Raises:
        InputError: an option outside its range.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda"]
    devices: Count
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    progress: bool

    def check(self) -> None:
        """Refuse what this machine has not.

        Raises:
            InputError: a GPU is asked for where there is none, or more than there are.
        """
        if self.accelerator not in ("gpu", "cuda"):
            return
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not found:
            raise InputError(
                f"trainer.accelerator={self.accelerator}: torch finds no GPU here; "
                "trainer.accelerator=auto takes one where there is one"
            )
        if self.devices > found:
            raise InputError(f"trainer.devices={self.devices}: this machine has {found} GPUs")

    def resolved_precision(self) -> str:
        """The precision that fine-tuning runs in here."""
        if self.precision != "auto":
            return self.precision
        import torch

        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if has_bf16 and self.accelerator != "cpu" else "32-true"

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments that every Trainer of a run shares.

        Lightning's own plugin for Slurm would count its tasks for processes of ours, answer its
        signals, and start from any ``hpc_ckpt_*.ckpt`` that it finds.
        """
        from pytorch_lightning.callbacks import TQDMProgressBar
        from pytorch_lightning.plugins.environments import LightningEnvironment

        environment = LightningEnvironment()
        environment.set_global_rank(0)  # on import Lightning takes Slurm's number of a task for it
        # In a log file a bar that redraws ten times a second is noise.
        rate = 1 if sys.stderr.isatty() else 200
        bars = [TQDMProgressBar(refresh_rate=rate)] if self.progress else []
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "deterministic": "warn",
            "plugins": [environment],
            "enable_progress_bar": self.progress,
            "callbacks": bars,
        }


def quiet() -> None:
    """Keep banners, advice and other libraries' bars out of a run's log; their errors stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    silence()  # peft takes bitsandbytes wherever it is installed
    # Lightning sets its own logger's level when it is imported, but not that of its children.
    told = ("utilities.rank_zero", "callbacks.model_summary", "trainer.connectors.signal_connector")
    for name in told:
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", module="peft")  # of tied weights: spice/models/merging.py
