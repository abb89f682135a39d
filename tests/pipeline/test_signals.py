"""Runs that are asked to stop, by a scheduler: in time, with their code, and nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from spice.stopping import CODES, LINES

#: a second task of two, none of them started by srun: what Lightning's plugin for Slurm refuses
SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "here",
}  # fmt: skip
COMMON = ["benchmarks=none", "finetune=none", "logger=csv", "trainer.progress=false",
          "hydra.run.dir=run"]  # fmt: skip
SMALL = ["gradients.batch_size=1", "gradients.shard_rows=8"]
TUNED = ["selector=random", "finetune=sandbox", "finetune.epochs=30", "finetune.batch_size=4",
         "finetune.micro_batch_size=2", "finetune.checkpoint_every=4"]  # fmt: skip


class Runs:
    """One command in a folder, started as often as a test likes."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder = folder
        self.options = options

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "spice", *self.options, *COMMON, *more], cwd=self.folder,
            env={**os.environ, **SLURM, "OMP_NUM_THREADS": "1", "SPICE_CACHE": "cache"},
            stdout=(self.folder / "log").open("a"), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self, *more: str) -> None:
        process = self.start(*more)
        assert (process.communicate()[1], process.returncode) == ("", 0)

    def stopped(self, number: signal.Signals, sight: str, *more: str) -> None:
        """Send it a signal as soon as a file is in sight, and look at how it ends."""
        process = self.start(*more)
        while not list(self.folder.glob(sight)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        asked = time.monotonic()
        error = process.communicate(timeout=60)[1]
        assert time.monotonic() - asked < 2.5
        assert (process.returncode, error) == (CODES[number], f"spice: {LINES[CODES[number]]}\n")
        assert not psutil.wait_procs(started, timeout=1)[1]


@pytest.fixture
def runs(
    tmp_path: Path, make_checkpoint: Callable[..., Path], write_jsonl: Callable[..., Path],
    records: list[dict[str, str]],
) -> Iterator[Runs]:  # fmt: skip
    """Eight hundred rows and tiny models, where another job has left what Lightning looks for."""
    many = [{**row, "instruction": f"{copy}. {row['instruction']}"}
            for copy in range(20) for row in records]  # fmt: skip
    (tmp_path / "hpc_ckpt_3.ckpt").write_bytes(b"of another job")
    models = [f"{name}.path={make_checkpoint('llama')}" for name in ("proxy", "model")]
    pool = ["data=jsonl", f"data.paths=[{write_jsonl(many)}]"]
    yield Runs(tmp_path, [*pool, "proxy=local", "model=local", *models])
    assert (tmp_path / "hpc_ckpt_3.ckpt").read_bytes() == b"of another job"
    assert not list(tmp_path.glob("hpc_ckpt_[!3]*")) + list(tmp_path.glob("lightning_logs"))


def picks(folder: Path) -> list[str]:
    return json.loads((folder / "selection.json").read_text(encoding="utf-8"))["ids"]


def steps(path: Path) -> list[int]:
    with path.open(encoding="utf-8", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
def test_sigterm_ends_an_extraction_that_goes_on_from_its_shards(runs: Runs) -> None:
    runs.stopped(signal.SIGTERM, "cache/gradients/*.partial/*.safetensors", *SMALL)
    [store] = (runs.folder / "cache" / "gradients").glob("*.partial")
    kept = len(list(store.glob("*.safetensors")))
    assert 1 <= kept < 100
    runs.finish(*SMALL)
    assert "shards are there already" in (runs.folder / "log").read_text(encoding="utf-8")
    assert len(picks(runs.folder / "run")) == 80


@pytest.mark.slow
def test_a_preempted_training_saves_a_step_of_its_own_under_slurm(runs: Runs) -> None:
    runs.stopped(signal.SIGUSR1, "cache/finetune/*.partial/checkpoints/last.ckpt", *TUNED)
    [last] = runs.folder.glob("cache/finetune/*.partial/checkpoints/last.ckpt")
    step = torch.load(last, weights_only=True)["global_step"]
    assert 4 <= step < 300
    runs.finish(*TUNED)
    logs = runs.folder / "run" / "logs"
    before, after = (steps(logs / name) for name in ("metrics-1.csv", "metrics.csv"))
    assert (before[0], before[-1]) == (0, step - 2)  # Lightning logs a step behind its end
    assert (after[0], after[-1]) == (step, 299)


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
PHASES = {
    "gradients": ("cache/gradients/*.partial/*.safetensors", SMALL),
    "windows": (
        "cache/selection/*.partial/learning/window-*",
        ["schedule=pools", "schedule.pool_size=40"],
    ),
    "rounds": ("cache/selection/*.partial/learning/state.pt", ["selector=lead"]),
    "experience": (
        "cache/*/*.partial/checkpoints",
        ["selector=ifd_experienced", "selector.experience.recipe.checkpoint_every=1"],
    ),
    "tuning": ("cache/finetune/*.partial/checkpoints/last.ckpt", TUNED),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_the_same_command_goes_on_to_the_same_end(
    runs: Runs, phase: str, number: signal.Signals
) -> None:
    sight, options = PHASES[phase]
    runs.stopped(number, sight, *options)
    runs.finish(*options)
    runs.finish(*options, "hydra.run.dir=whole", "cache_dir=elsewhere")
    one, two = runs.folder / "run", runs.folder / "whole"
    assert picks(one) == picks(two)
    if phase == "tuning":
        mine, theirs = (load_file(f / "adapter" / "adapter_model.safetensors") for f in (one, two))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
