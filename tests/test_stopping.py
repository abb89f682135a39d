"""Signals in small processes of their own: each ends as asked, in time, and takes its own along."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spice.stopping import CODES, LINES, PREEMPTED

HEAD = """
import os, signal, subprocess, sys, time
from spice import stopping
def ready():
    print("ready", flush=True)
"""
LOOP = """
with stopping.listening():
    ready()
    while True:
        sum(range(1000))
"""
#: nothing gets through to it, and it has started a process that nothing gets through to either
DEAF = """
with stopping.listening():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    told = False
    while True:
        try:
            told = told or ready() or True
            time.sleep(60)
        except BaseException:
            pass
"""
STEPS = """
with stopping.listening(), stopping.deferred():
    ready()
    for step in range(600):
        time.sleep(0.1)
        if stopping.asked() and step >= 5:
            print("saved", flush=True)
            stopping.obey()
"""
DESTRUCTOR = """
class Slow:
    def __del__(self):
        ready()
        time.sleep(60)
with stopping.listening():
    slow = Slow()
    del slow
    time.sleep(60)
"""
FORKS = """
with stopping.listening():
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    time.sleep(2)
print("went on", flush=True)
"""


def begun(tmp_path: Path, program: str) -> subprocess.Popen[str]:
    path = tmp_path / "program.py"
    path.write_text(HEAD + program, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() in ("ready\n", "went on\n")
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    """The exit code, what was told as an error, and how long it took."""
    start = time.monotonic()
    error = process.communicate(timeout=90)[1]
    return process.returncode, error, time.monotonic() - start


@pytest.mark.parametrize("number", CODES, ids=lambda number: signal.Signals(number).name)
def test_each_signal_has_its_code_and_its_line(tmp_path: Path, number: int) -> None:
    process = begun(tmp_path, LOOP)
    process.send_signal(number)
    code, error, seconds = ended(process)
    assert (code, error) == (CODES[number], f"spice: {LINES[CODES[number]]}\n")
    assert seconds < 1.5


def test_what_hears_no_signal_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    process = begun(tmp_path, DEAF)
    [child] = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    code, error, seconds = ended(process)
    assert (code, error.count("\n")) == (143, 1)
    assert seconds < 2.5
    until = time.monotonic() + 10  # a kill is heard by the system's own clock
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_step_is_ended_and_saved_first(tmp_path: Path, number: signal.Signals) -> None:
    process = begun(tmp_path, STEPS)
    for _ in range(3):  # some schedulers say it several times
        process.send_signal(number)
        time.sleep(0.02)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (CODES[number], "saved\n")
    assert error.count("\n") == 1


def test_a_run_that_is_to_be_queued_again_can_still_be_ended(tmp_path: Path) -> None:
    process = begun(tmp_path, DEAF)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    assert process.poll() is None  # it has a minute to save
    process.send_signal(signal.SIGTERM)
    code, error, seconds = ended(process)
    assert (code, error) == (143, f"spice: {LINES[143]}\n")
    assert seconds < 2.5


def test_a_stop_that_python_loses_in_a_destructor_is_one_all_the_same(tmp_path: Path) -> None:
    process = begun(tmp_path, DESTRUCTOR)
    process.send_signal(signal.SIGINT)
    assert ended(process)[:2] == (130, f"spice: {LINES[130]}\n")


def test_a_forked_child_that_is_ended_does_not_end_its_parent(tmp_path: Path) -> None:
    assert ended(begun(tmp_path, FORKS))[:2] == (0, "")


def test_the_code_that_queues_again_is_that_of_a_temporary_failure() -> None:
    import os

    assert os.EX_TEMPFAIL == PREEMPTED
