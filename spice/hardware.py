"""The machine: how Lightning is to use it, and what it was, for the record."""

from __future__ import annotations

import functools
import logging
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spice.errors import InputError

PACKAGES = ("torch", "transformers", "peft", "pytorch-lightning", "lm-eval", "numpy", "datasets")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Hardware:
    """What stands behind ``trainer=``: Lightning's accelerator, devices and precision.

    ``precision`` auto is bf16-mixed where a GPU has it, else 32-true; it is fine-tuning's alone,
    gradients are always accumulated in float32. ``progress`` shows bars with rate and time left.
    """

    accelerator: str
    devices: int
    precision: str
    progress: bool

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"trainer.precision={self.precision}: must be one of {', '.join(PRECISIONS)}"
            )

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


@functools.cache  # of distributions' metadata, which every key asks for
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def describe() -> dict[str, Any]:
    """Processor, cores, memory and GPU."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    pages = (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    )
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(pages / 2**30, 1),
        "gpus": gpus,
    }


def git_commit() -> str | None:
    """The commit of the source tree that runs, ``+dirty`` if it was edited; None if installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        sha = _git(root, "rev-parse", "HEAD")
        return f"{sha}+dirty" if _git(root, "status", "--porcelain") else sha
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
