"""Sweeps whose jobs run in processes of their own come to what they come to one after another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from compose import composed
from omegaconf import OmegaConf

from spice.errors import InputError
from spice.pipeline import launchers

JOBS = ["selector.penalty=0,0.1,0.5,2", "budget=0.1,0.2"]
INSTALLED = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
MORE = {
    "submitit_local": ["hydra.sweeper.max_batch_size=2"],
    "submitit_slurm": [
        "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.mem_gb=2", "hydra.launcher.array_parallelism=2",
        "hydra.launcher.timeout_min=20",
    ],
}  # fmt: skip


def installed(launcher: str) -> Any:
    there = find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{INSTALLED[launcher]}")
    marks = [pytest.mark.slow, pytest.mark.skipif(not there, reason=f"without spice[{launcher}]")]
    if launcher == "submitit_slurm":
        marks.append(pytest.mark.skipif(not slurm_answers(), reason="without Slurm"))
    return pytest.param(launcher, marks=marks)


def slurm_answers() -> bool:
    return (
        bool(shutil.which("sinfo"))
        and not subprocess.run(["sinfo"], capture_output=True).returncode
    )


# -- before anything is launched -----------------------------------------------------------------


def test_a_launcher_that_is_not_installed_is_one_line() -> None:
    target = "hydra.launcher._target_=hydra_plugins.hydra_no_launcher.NoLauncher"
    config = composed("hydra/launcher=joblib", target)
    with pytest.raises(InputError, match=r"joblib: .* pip install 'spice-selection\[no\]'"):
        launchers.check(config)


def test_a_plan_measures_one_job_at_a_time() -> None:
    launchers.check(composed("plan=true"))
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launchers.check(composed("hydra/launcher=joblib"))
    with pytest.raises(InputError, match="leave out hydra/launcher=joblib"):
        launchers.check(composed("plan=true", "hydra/launcher=joblib"))


def test_a_slurm_array_is_told_in_time_and_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    (tmp_path / "srun").touch(mode=0o755)  # submitit looks whether it is there
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    asked = OmegaConf.to_container(composed("hydra/launcher=submitit_slurm").hydra.launcher)
    assert isinstance(asked, dict)
    shared = {*plugin.BaseQueueConf.__dataclass_fields__}
    assert {*plugin.SlurmQueueConf.__dataclass_fields__} == {*asked}
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm", slurm_max_num_timeout=100)
    executor.update_parameters(**{
        str(name) if name in shared else f"slurm_{name}": value for name, value in asked.items()
        if name not in ("_target_", "submitit_folder", "max_num_timeout")
    })  # fmt: skip
    script = executor._executor._make_submission_file_text("spice", "4711")
    lines = set(script.splitlines())
    for said in ("signal=USR2@120", "requeue", "time=1440", "open-mode=append", "mem=64GB"):
        assert f"#SBATCH --{said}" in lines, script


def test_errors_of_an_engine_are_one_line_and_others_are_not_ours() -> None:
    submitit = pytest.importorskip("submitit")
    told = launchers.told(submitit.core.utils.UncompletedJobError("\nJob 7 has no output\nmore"))
    assert told is not None
    assert "UncompletedJobError: Job 7 has no output);" in told
    assert launchers.told(ValueError("x")) is None


# -- sweeps --------------------------------------------------------------------------------------


@pytest.fixture
def options(
    make_checkpoint: Callable[..., Path], write_jsonl: Callable[..., Path], records: list[Any]
) -> list[str]:
    folder = make_checkpoint("llama")
    return [
        "data=jsonl", f"data.paths=[{write_jsonl(records)}]", "budget=0.2", "logger=csv",
        "proxy=local", f"proxy.path={folder}", "model=local", f"model.path={folder}",
        "finetune.epochs=1", "finetune.batch_size=4", "trainer.progress=false",
        "benchmarks=sandbox", "benchmarks.limit=2", "benchmarks.only=[mmlu]",
    ]  # fmt: skip


def begun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "spice", "-m", *arguments], cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SPICE_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def swept(folder: Path, *arguments: str) -> tuple[str, str, int]:
    process = begun(folder, *arguments)
    out, error = process.communicate(timeout=400)
    return out, error, process.returncode


def facts(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of the one sweep below a folder chose and scored, in their order."""
    runs = sorted(folder.glob("multirun/*/*/*/results.json"))
    found = []
    for path in runs:
        chosen = json.loads((path.parent / "selection.json").read_text())
        results = json.loads(path.read_text())
        names = ("ids", "gains", "conflicts", "information")
        found.append({**{name: chosen[name] for name in names}, "scores": results["scores"]})
    return found


@pytest.fixture(scope="module")
def serial() -> dict[str, Any]:
    """What the jobs come to one after another, made by the first test that compares."""
    return {}


@pytest.mark.parametrize("launcher", [installed(name) for name in INSTALLED])
def test_two_at_a_time_come_to_what_they_come_to_one_after_another(
    tmp_path: Path, options: list[str], serial: dict[str, Any], launcher: str
) -> None:
    if not serial:
        out, error, code = swept(tmp_path / "serial", *options, *JOBS)
        assert code == 0, error
        serial["facts"] = facts(tmp_path / "serial")
        [table] = (tmp_path / "serial").glob("multirun/*/*/table.md")
        serial["table"] = table.read_text()
    folder = tmp_path / launcher
    more = [f"hydra/launcher={launcher}", *MORE.get(launcher, [])]
    out, error, code = swept(folder, *options, *JOBS, *more)
    assert code == 0, error
    assert "is validated against" not in error
    assert facts(folder) == serial["facts"]
    assert len(serial["facts"]) == 8
    [table] = folder.glob("multirun/*/*/table.md")  # one sweep, wherever its jobs were
    assert table.read_text() == serial["table"]
    assert "selector.penalty" in out
    assert not [*(folder / "cache").rglob("*.locked*"), *(folder / "cache").rglob("*.partial")]


@pytest.mark.parametrize(
    "launcher", [installed(name) for name in ("joblib", "submitit_local", "submitit_slurm")]
)
def test_a_job_that_is_refused_ends_no_other_and_is_told_at_the_end(
    tmp_path: Path, options: list[str], launcher: str
) -> None:
    choose = [*options, "selector=random", "until=selection", *MORE.get(launcher, [])]
    _, error, code = swept(tmp_path, *choose, "budget=4,400", f"hydra/launcher={launcher}")
    assert code == 1, error
    assert error.splitlines()[-1] == "spice: job 1: budget=400: the pool has only 40 rows"
    assert "Traceback" not in error
    assert len(list(tmp_path.glob("multirun/*/*/0/until.json"))) == 1


@pytest.mark.parametrize("launcher", [installed("submitit_local"), installed("submitit_slurm")])
def test_a_preempted_job_is_queued_again_and_goes_on(
    tmp_path: Path, options: list[str], launcher: str
) -> None:
    tuned = [*options, "finetune.epochs=40", "finetune.checkpoint_every=1", "selector=random"]
    sweep = begun(tmp_path, *tuned, f"hydra/launcher={launcher}", *MORE[launcher])
    until = time.monotonic() + 120
    while not list(tmp_path.glob("cache/finetune/*.partial/checkpoints/last.ckpt")):
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    if launcher == "submitit_slurm":  # as Slurm does before a job's time is up
        subprocess.run(["scancel", "--name=spice", "--signal=USR2"], check=True)
    else:
        jobs = [p for p in psutil.Process(sweep.pid).children(recursive=True)
                if "submitit.core._submit" in p.cmdline()]  # fmt: skip
        assert jobs
        jobs[-1].send_signal(signal.SIGUSR2)
    _, error = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, error
    log = "".join(path.read_text() for path in tmp_path.glob("multirun/*/*/.submitit/*/*.out"))
    assert "going on from what an interrupted run left" in log
    assert len(facts(tmp_path)) == 1
