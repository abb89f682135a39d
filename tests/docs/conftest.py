"""One small sweep on the sandbox, which the walks and the notebooks read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT

#: what makes a run on the sandbox one of seconds
SMALL = ["data.size=200", "benchmarks.limit=5", "finetune.max_steps=5", "logger=csv"]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``spice`` in a folder, with this source tree and a cache beside the folder."""
    known = {"PYTHONPATH": str(ROOT), "SPICE_CACHE": str(folder.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "spice", *words], cwd=folder, env={**os.environ, **known},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep's folder, ``multirun/<day>/<time>`` below another."""
    home = tmp_path_factory.mktemp("demo") / "home"
    home.mkdir()
    done = run(home, "-m", "selector=none,random,spice_consensus", *SMALL,
               "hydra.sweep.dir=multirun/2026-01-01/00-00-00")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return home / "multirun/2026-01-01/00-00-00"
