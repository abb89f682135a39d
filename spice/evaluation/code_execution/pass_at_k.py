"""Run generated Python where it can do no harm, and count what passes.

A program runs in a process of its own, forked for it alone off one that has nothing but Python in
it, in an empty folder that is removed afterwards, with no environment to speak of, no input, and
output that goes nowhere.

Linux (x86-64 and aarch64)
    The kernel limits processor time, memory and open files, and a seccomp filter lets through
    only system calls that read files, compute, wait or start threads. So there is no network, no
    other process (neither started nor signalled), and no file is written, deleted or renamed.
    What remains: the program can *read* whatever the user who runs the evaluation can read, but
    has nowhere to send it; and bugs of the kernel are not defended against. A container or a
    virtual machine around the whole run adds a second wall.
macOS, Windows, other architectures
    There is no such filter, so :func:`sandbox_available` says why, and benchmarks that run code
    are reported as skipped.

A program passes when it has run to its end: the runner then sends back a random number that it was
told before. Leaving early (``sys.exit(0)``, ``os._exit(0)``) therefore never passes. This is proof
against accidents, not against a program written to cheat: that shares its process with the runner
and could look for the number.
"""

from __future__ import annotations

import atexit
import functools
import math
import os
import platform
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from spice.evaluation.code_execution.runner import ARCHITECTURES

RUNNER = Path(__file__).with_name("runner.py")
LONGEST_REPORT = 1024  # bytes; a program that floods the report has failed

# Not `python -I`, which would ignore PYTHONHASHSEED: programs that depend on the order of a set
# must not pass on one day and fail on another. `-s -P` and this environment isolate as much.
COMMAND = [sys.executable, "-s", "-P", str(RUNNER)]
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# Run once before the sandbox is trusted: each of these has to be refused by the filter.
PROBE = """
import os, socket
def refused(action):
    try:
        action()
    except PermissionError:
        return True
assert refused(lambda: open("probe", "w"))
assert refused(lambda: socket.socket())
assert refused(os.fork)
"""


@dataclass(frozen=True)
class Outcome:
    """Whether a program ran to its end, and in a few words why not."""

    passed: bool
    why: str


class SandboxError(RuntimeError):
    """Generated code cannot be run safely on this machine; the message says why."""


def run_program(program: str, timeout_s: float = 3.0, memory_mb: int = 512) -> Outcome:
    """Run a Python program in the sandbox.

    It gets ``timeout_s`` seconds of processor time (rounded up to whole ones) and ``memory_mb``
    MiB of address space. By the clock it gets three times ``timeout_s``, so that a busy machine
    fails no program that computes, and a sleeping one ends too. Raises
    :class:`SandboxError` rather than run anything outside of the sandbox.
    """
    if sys.platform != "linux":
        raise SandboxError(f"no sandbox for generated code on {sys.platform}")
    nonce = secrets.token_hex(16)
    header = f"{nonce} {math.ceil(timeout_s)} {memory_mb}\n"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as source:
        source.write(header.encode() + program.encode(errors="replace"))
        source.seek(0)
        report, status = _run_child(source, folder, deadline=time.monotonic() + 3 * timeout_s)
    if report == nonce.encode():
        return Outcome(True, "passed")
    unavailable = f"{nonce} unavailable: ".encode()
    if report is not None and report.startswith(unavailable):
        raise SandboxError(report.removeprefix(unavailable).decode())
    return Outcome(False, _why(report, status))


class _Starter:
    """A small process that forks one child at a time for us; starting Python anew takes 30 ms."""

    def __init__(self) -> None:
        self.line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self.process = subprocess.Popen(
                COMMAND,
                stdin=far.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    def run(self, source: IO[bytes], folder: str, deadline: float) -> tuple[bytes | None, int]:
        """What the child reported (None if it ran out of time), and its exit status."""
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=0) as report_stream:
            try:
                socket.send_fds(self.line, [folder.encode()], [source.fileno(), writing])
            finally:
                os.close(writing)
            report = _read(report_stream, deadline)
            self.line.send(b".")
            answer = self.line.recv(64)
        if not answer:
            raise SandboxError("the process that starts generated programs is gone")
        return report, os.waitstatus_to_exitcode(int(answer))

    def close(self) -> None:
        """End it, and the child that it may have."""
        self.line.close()
        self.process.kill()
        self.process.wait()


_idle: list[_Starter] = []  # as many as programs were run at a time


@atexit.register
def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


def _run_child(source: IO[bytes], folder: str, deadline: float) -> tuple[bytes | None, int]:
    try:
        starter = _idle.pop()
    except IndexError:
        starter = _Starter()
    try:
        answer = starter.run(source, folder, deadline)
    except BaseException as error:  # in the middle of a program: never to be used again
        starter.close()
        if isinstance(error, OSError):
            raise SandboxError(f"generated programs cannot be started: {error}") from error
        raise
    _idle.append(starter)
    return answer


def _read(stream: IO[bytes], deadline: float) -> bytes | None:
    """All that is written to a pipe, up to a limit; None if it stays open beyond the deadline."""
    report = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(report) <= LONGEST_REPORT:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            chunk = os.read(stream.fileno(), LONGEST_REPORT)
            if not chunk:
                break
            report += chunk
    return report


def _why(report: bytes | None, status: int) -> str:
    if report is None or status == -signal.SIGXCPU:
        return "timed out"
    if len(report) > LONGEST_REPORT:
        return "flooded its report"
    if report:
        return f"failed: {report.decode(errors='replace')}"
    if status < 0:
        return f"died: {signal.Signals(-status).name}"
    return "left before its end"


@functools.cache
def sandbox_available() -> str | None:
    """None if generated code can be run safely here, else the plain reason why it cannot."""
    if sys.platform != "linux":
        return f"generated code is run only on Linux, this is {platform.system()}"
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return f"no system-call filter for this architecture ({machine})"
    try:
        outcome = run_program(PROBE, timeout_s=10)
    except (SandboxError, OSError) as error:
        return f"the system-call filter cannot be installed here ({error})"
    return None if outcome.passed else f"the system-call filter does not hold ({outcome.why})"


def pass_at_k(n: int, passed: int, k: int) -> float:
    """The unbiased estimate 1 − C(n−c, k)/C(n, k) from c of n programs (arXiv 2107.03374, eq. 1).

    >>> pass_at_k(5, 2, 1)
    0.4
    """
    return 1.0 - math.comb(n - passed, k) / math.comb(n, k)


class PassAtK:
    """Stands in for the Hugging Face metric ``code_eval``, which runs code without a sandbox."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or min(4, os.cpu_count() or 1)

    def compute(
        self,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int | None = None,
        timeout: float = 3.0,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """Run every candidate of ``predictions[i]`` with the test ``references[i]``.

        Returns ``{"pass@k": mean over i}`` for each k that no i has fewer candidates than, and
        per i the outcome of each candidate, both in the form of ``code_eval``.
        """
        jobs = [(i, j) for i, candidates in enumerate(predictions) for j in range(len(candidates))]
        programs = [f"{predictions[i][j]}\n{references[i]}" for i, j in jobs]
        with ThreadPoolExecutor(num_workers or self.workers) as pool:
            outcomes = list(pool.map(functools.partial(run_program, timeout_s=timeout), programs))
        details: dict[int, list[tuple[int, dict[str, Any]]]] = {
            i: [] for i in range(len(predictions))
        }
        for (i, j), outcome in zip(jobs, outcomes, strict=True):
            result = {"task_id": i, "passed": outcome.passed, "result": outcome.why}
            details[i].append((j, {**result, "completion_id": j}))
        counts = [
            (len(tried), sum(result["passed"] for _, result in tried)) for tried in details.values()
        ]
        scores = {
            f"pass@{size}": sum(pass_at_k(n, passed, size) for n, passed in counts) / len(counts)
            for size in k
            if all(n >= size for n, _ in counts)
        }
        return scores, details
