"""Runs that are killed for good, at moments of no one's choosing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

POOLS = ["selector=spice", "schedule=pools", "schedule.pool_size=24", "schedule.refresh_every=3",
         "schedule.learning_rate=0.01"]  # fmt: skip
COMMON = ["data.size=480", "budget=48", "finetune=none", "benchmarks=none", "logger=csv",
          "trainer.progress=false"]  # fmt: skip


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "spice", *options, *COMMON, f"hydra.run.dir={folder / 'run'}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "SPICE_CACHE": str(folder / "cache")},
        stdout=(folder / "log").open("ab"),
        stderr=subprocess.STDOUT,
    )


def finished(folder: Path, *options: str) -> dict:
    assert start(folder, *options).wait(timeout=300) == 0, (folder / "log").read_text()[-2000:]
    return json.loads((folder / "run/selection.json").read_text())


def progress(folder: Path) -> list[tuple[str, int]]:
    """What the run has kept so far of its choosing."""
    kept = folder.glob("cache/selection/*/learning/*")
    return sorted((path.name, path.stat().st_mtime_ns) for path in kept if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "most"), [(POOLS, 4), (["selector=lead"], 2)], ids=["pools", "lead"]
)
def test_five_kills_at_random_change_nothing(options: list[str], most: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = finished(whole, *options)
    draw, kills = random.Random(20260), 0
    while kills < 5:
        process = start(cut, *options)
        changes, known = draw.randint(1, most), progress(cut)
        while changes and process.poll() is None:
            if (now := progress(cut)) != known:
                known, changes = now, changes - 1
            time.sleep(draw.uniform(0, 0.02))
        assert process.poll() is None, (cut / "log").read_text()[-2000:]  # or too few were kept
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    found = finished(cut, *options)
    assert found["ids"] == expected["ids"]
    assert (found["scores"], found["gains"]) == (expected["scores"], expected["gains"])
