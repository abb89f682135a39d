"""How Lightning is to use the machine."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from spice.errors import InputError

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Machine:
    """What stands behind ``trainer=``: Lightning's accelerator, devices and precision.

    ``precision`` auto is bf16-mixed where a GPU has it, else 32-true; it is fine-tuning's alone,
    gradients are always accumulated in float32. ``progress`` shows bars with rate and time left.

    Raises:
        InputError: an option outside its range.
    """

    accelerator: str
    devices: int
    precision: str
    progress: bool

    def __post_init__(self) -> None:
        if self.accelerator not in ACCELERATORS:
            raise InputError(
                f"trainer.accelerator={self.accelerator}: must be one of {', '.join(ACCELERATORS)}"
            )
        if type(self.devices) is not int or self.devices < 1:
            raise InputError(f"trainer.devices={self.devices}: must be a whole number, at least 1")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"trainer.precision={self.precision}: must be one of {', '.join(PRECISIONS)}"
            )

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
        """Arguments that every Trainer of a run shares."""
        from pytorch_lightning.callbacks import TQDMProgressBar

        # In a log file a bar that redraws ten times a second is noise.
        rate = 1 if sys.stderr.isatty() else 200
        bars = [TQDMProgressBar(refresh_rate=rate)] if self.progress else []
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "deterministic": "warn",
            "enable_progress_bar": self.progress,
            "callbacks": bars,
        }


def quiet() -> None:
    """Keep banners, advice and other libraries' bars out of a run's log; their errors stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # Lightning sets its own logger's level when it is imported, but not that of its children.
    for name in ("utilities.rank_zero", "callbacks.model_summary"):
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", module="peft")  # of tied weights: spice/models/merging.py
