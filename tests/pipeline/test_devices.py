"""Several processes, however they were started, come to what one comes to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from compose import job
from safetensors.torch import load_file

from spice.distributed import team
from spice.pipeline.run import run
from spice.stopping import CODES

COMMON = ["logger=csv", "trainer=cpu", "trainer.progress=false", "data.size=240", "budget=24",
          "gradients.shard_rows=32"]  # fmt: skip
CHOSEN = ["finetune=none", "benchmarks=none"]
WHOLE = ["finetune.max_steps=6", "finetune.micro_batch_size=2", "finetune.checkpoint_every=1",
         "benchmarks.only=[mmlu,gsm8k]", "benchmarks.limit=5",
         "benchmarks.batch_size=2"]  # fmt: skip
DEVICES = [["trainer.devices=1"], ["trainer.devices=2"],
           ["trainer.devices=2", "trainer.strategy=fsdp"]]  # fmt: skip
AIMED = ["finetune=none", "benchmarks.only=[mmlu]", "benchmarks.limit=2"]


@pytest.fixture(scope="module", autouse=True)
def team_of_two() -> Iterator[None]:
    yield
    team.ask_for(1, False)
    team.disband()


def signals(cache: Path) -> dict[str, bytes]:
    """What was read, by its place; names of stages are their keys."""
    stages = {path.name for path in cache.iterdir()} - {"selection", "weights", "datasets"}
    found = (path for stage in stages for path in (cache / stage).rglob("*.*"))
    arrays = (path for path in found if path.suffix in {".safetensors", ".npy"})
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in arrays}


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["selector=spice", *CHOSEN],
        ["selector=spice", "gradients.projection=64", "gradients.dtype=int8", *CHOSEN],
        ["selector=spice", "gradients.shard_rows=999", *CHOSEN],  # fewer shards than processes
        ["selector=ifd", *CHOSEN],
        ["selector=selectit", *CHOSEN],
        ["selector=rds", *AIMED],
        ["selector=spice_targeted", *AIMED],
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_what_is_read_is_the_same_to_the_byte(overrides: list[str], tmp_path: Path) -> None:
    found = []
    for way, devices in enumerate(DEVICES):
        cache = tmp_path / f"cache-{way}"
        run(job(*COMMON, *devices, f"cache_dir={cache}", *overrides), tmp_path / f"run-{way}")
        found.append(signals(cache))
    assert found[0]
    assert found[0] == found[1] == found[2]
    one, *others = (chosen(tmp_path / f"run-{way}") for way in range(3))
    assert others == [one, one]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule=pools", "schedule.pool_size=24", "schedule.refresh_every=2"],
        ["schedule=pools", "schedule.pool_size=24", "gradients.projection=64"],
        ["schedule=pools", "schedule.pool_size=24", "gradients.batch_size=64"],  # one batch for two
        ["selector=lead"],
        ["selector=less"],  # its warm-up
    ],
    ids=lambda overrides: " ".join(overrides[::2]),
)
def test_a_proxy_that_learns_chooses_the_same(overrides: list[str], tmp_path: Path) -> None:
    """Dropout is on, and the steps are large enough that the proxy's state matters."""
    rate = ["schedule.learning_rate=0.01"] if "schedule=pools" in overrides else []
    ends = AIMED if "selector=less" in overrides else CHOSEN
    found = []
    for way, devices in enumerate(DEVICES):
        place, folder = f"cache_dir={tmp_path / f'cache-{way}'}", tmp_path / f"run-{way}"
        run(job(*COMMON, *ends, *overrides, *devices, place, *rate), folder)
        found.append(json.loads((folder / "selection.json").read_text(encoding="utf-8")))
    one, *others = found
    for other in others:
        assert other["ids"] == one["ids"]
        for name in ("scores", "gains"):
            if one[name]:
                assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["scores"]


def far(one: Path, other: Path) -> float:
    a, b = (load_file(path / "adapter/adapter_model.safetensors") for path in (one, other))
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    process = begin(folder, command(more=WHOLE))
    assert process.wait() == 0, process.communicate()
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("divided", [[], ["trainer.strategy=fsdp"]], ids=["whole", "divided"])
@pytest.mark.parametrize("started", ["by itself", "by torchrun"])
def test_a_whole_run_comes_to_the_same(
    tmp_path: Path, whole: Path, started: str, divided: list[str]
) -> None:
    starter = ["torch.distributed.run", "--nproc-per-node=2", "--master-port", port(), "-m"]
    argv = (
        command(*starter, more=WHOLE)
        if started == "by torchrun"
        else [*command(more=WHOLE), "trainer.devices=2"]
    )
    process = begin(tmp_path, [*argv, *divided])
    log = process.communicate(timeout=200)[0]
    assert process.returncode == 0, log
    assert far(whole, tmp_path / "run") < 1e-5
    assert results(tmp_path / "run") == results(whole)
    for path in [] if divided else (whole / "samples").iterdir():  # the adapter is not merged
        assert (tmp_path / "run/samples" / path.name).read_bytes() == path.read_bytes()
    curves = (tmp_path / "run/logs/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(curves) == len((whole / "logs/metrics.csv").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_tuning_on_two_devices_is_stopped_and_goes_on(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    argv = [*command(more=WHOLE), "trainer.devices=2"]
    process = begin(tmp_path, argv)
    while not list(tmp_path.glob("cache/finetune/*.partial/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode in (CODES.get(number, -number), 0)
    assert not psutil.wait_procs(family, timeout=10)[1]
    again = begin(tmp_path, argv)
    log = again.communicate(timeout=200)[0]
    assert again.returncode == 0, log
    assert far(whole, tmp_path / "run") < 1e-5
    assert results(tmp_path / "run") == results(whole)


def command(*starter: str, more: Sequence[str] = CHOSEN) -> list[str]:
    program = [sys.executable, "-m", *starter, "spice"]
    return [*program, *COMMON, *more, "hydra.run.dir=run", "cache_dir=cache"]


def begin(folder: Path, argv: list[str], **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **more}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def chosen(folder: Path) -> list[str]:
    [found] = folder.rglob("selection.json")  # one folder, however many processes
    return json.loads(found.read_text(encoding="utf-8"))["ids"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("alone")
    process = begin(folder, command())
    assert process.wait() == 0, process.communicate()
    return chosen(folder / "run")


@pytest.mark.slow
def test_torchrun_starts_one_run(tmp_path: Path, alone: list[str]) -> None:
    starter = ["torch.distributed.run", "--nproc-per-node=2", "--master-port", port(), "-m"]
    process = begin(tmp_path, command(*starter))
    log = process.communicate(timeout=120)[0]
    assert process.returncode == 0, log
    assert chosen(tmp_path / "run") == alone
    assert log.count("run folder") == 1  # the other process says nothing


@pytest.mark.slow
def test_two_machines_share_one_run(tmp_path: Path, alone: list[str]) -> None:
    at = port()
    nodes = [
        begin(tmp_path, command(
            "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1",
            "--master-addr=127.0.0.1", f"--master-port={at}", "-m",
        )) for node in (0, 1)
    ]  # fmt: skip
    logs = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], logs
    assert chosen(tmp_path / "run") == alone
    assert "run folder" not in logs[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run", "helper"])
def test_a_killed_process_costs_a_shard(tmp_path: Path, alone: list[str], victim: str) -> None:
    argv = [*command(), "trainer.devices=2", "gradients.batch_size=1"]
    process = begin(tmp_path, argv)
    while not list(tmp_path.glob("cache/gradients/*.partial/*.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    helper = next(p for p in family if "spice.distributed.serving" in " ".join(p.cmdline()))
    (process if victim == "run" else helper).send_signal(signal.SIGKILL)
    log = process.communicate(timeout=60)[0]
    if victim == "helper":
        assert process.returncode == 2
        assert "process 1 was ended by SIGKILL" in log.splitlines()[-1]
    assert not psutil.wait_procs(family, timeout=10)[1]
    again = begin(tmp_path, argv)
    log = again.communicate(timeout=120)[0]
    assert again.returncode == 0, log
    assert "shards are there already" in log
    assert chosen(tmp_path / "run") == alone


@pytest.mark.slow
def test_processes_that_were_not_asked_for_are_refused(tmp_path: Path) -> None:
    starter = ["torch.distributed.run", "--nproc-per-node=2", "--master-port", port(), "-m"]
    process = begin(tmp_path, [*command(*starter), "trainer.devices=3"])
    log = process.communicate(timeout=120)[0]
    assert process.returncode
    assert "trainer.devices=3 trainer.num_nodes=1: 2 processes were started" in log


def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
