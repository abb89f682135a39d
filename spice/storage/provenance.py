"""What ran where: versions, the commit, the machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: modules of the packages that decide a result, and what the packages are called
PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "pytorch_lightning": "pytorch-lightning",
    "lm_eval": "lm-eval",
    "numpy": "numpy",
    "datasets": "datasets",
    "sklearn": "scikit-learn",
}


@functools.cache  # of distributions' metadata, which every key asks for
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES.values():
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
    root = Path(__file__).parents[2]
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
