"""Run generated Python where it can do no harm, and count what passes.

A program runs in a process of its own, forked for it alone off one that has nothing but Python in
it, in an empty folder that is removed afterwards, with no environment to speak of, no input, and
output that goes nowhere.

Linux (x86-64 and aarch64)
    The kernel limits processor time, memory and open files, and a seccomp filter lets through
    only system calls that read files, compute, wait or start threads. So there is no network, no
    other process (neither started nor signalled), and no file is written, deleted or renamed.
    Landlock leaves nothing to read but the interpreter, its library, what that is linked with,
    and the empty folder; rights of root are dropped, and a user namespace and processes that
    cannot be dumped keep the environment and the memory of all others closed. A kernel without
    Landlock or user namespaces still runs programs, and the score's record says what is missing.
    What remains: a program can ask whether a file exists and how large it is; and bugs of the
    kernel are not defended against. A container or a virtual machine around the whole run adds a
    second wall.
macOS, Windows, other architectures
    There is no such filter, so :func:`sandbox_available` says why, and benchmarks that run code
    are reported as skipped.

A program passes when it and its test have run to their end: the runner then sends back a random
number that lies where no name, frame or traced line leads, and that no file or other process gives
away. Leaving early (``sys.exit(0)``, ``os._exit(0)``), skipping lines of the test or ending its
text early therefore never passes. But a program and its test share a namespace and a process, as
pass@k has them: answers that equal everything, or a name of the test's that the program binds anew
(``abs``), are judged by the test alone; and a program that reads its own interpreter's memory by
address (``ctypes``, forged bytecode) could find the number. Such a program gains a point, and
nothing else.
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
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from spice.evaluation.code_execution import walls
from spice.evaluation.code_execution.system_calls import ARCHITECTURES

ROOT = str(Path(__file__).parents[3])
START = (
    f"import sys; sys.path.insert(0, {ROOT!r}); "
    "from spice.evaluation.code_execution.runner import serve; del sys.path[0]; serve()"
)
UNAVAILABLE = " unavailable: "
LONGEST_REPORT = 1024  # bytes; a program that floods the report has failed

# Not `python -I`, which would ignore PYTHONHASHSEED: programs that depend on the order of a set
# must not pass on one day and fail on another. `-s -P` and this environment isolate as much.
COMMAND = [sys.executable, "-s", "-P", "-c", START]
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# Run once before the sandbox is trusted: each of these has to be refused, and the library, compiled
# modules too, has to be there.
PROBE = """
import decimal, hashlib, json, os, random, re, socket, threading, unittest
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
    """Whether a program ran to its end, and in a few words why not.

    ``missing`` is what the kernel had no wall against, where the program passed.
    """

    passed: bool
    why: str
    missing: str = field(default="", compare=False)


class SandboxError(RuntimeError):
    """Generated code cannot be run safely on this machine; the message says why."""


def run_program(
    program: str, timeout_s: float = 3.0, memory_mb: int = 512, *, test: str = ""
) -> Outcome:
    """Run a Python program, and then its test in the same namespace, in the sandbox.

    They get ``timeout_s`` seconds of processor time (rounded up to whole ones) and ``memory_mb``
    MiB of address space. By the clock they get three times ``timeout_s``, so that a busy machine
    fails no program that computes, and a sleeping one ends too.

    Raises:
        SandboxError: rather than run anything outside of the sandbox.
    """
    if sys.platform != "linux":
        raise SandboxError(f"no sandbox for generated code on {sys.platform}")
    number = secrets.token_hex(16).encode()
    encoded = program.encode(errors="replace")
    header = f"{math.ceil(timeout_s)} {memory_mb} {len(encoded)}\n".encode()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as source, _hidden:
        source.write(header + encoded + test.encode(errors="replace"))
        source.seek(0)
        deadline = time.monotonic() + 3 * timeout_s
        report, status = _run_child(source, folder, number, deadline)
    if report is None or not report.startswith(number):
        return Outcome(False, _why(report, status))
    told = report.removeprefix(number).decode()
    if told.startswith(UNAVAILABLE):
        raise SandboxError(told.removeprefix(UNAVAILABLE))
    return Outcome(True, "passed", told)


class _Hidden:
    """Keeps this process, its environment and its pipes from being looked into meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.before = False

    def __enter__(self) -> None:
        with self.lock:
            if not self.running:
                self.before = walls.hidden()
                walls.hide()
            self.running += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.running -= 1
            if not self.running and not self.before:
                walls.unhide()


_hidden = _Hidden()


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

    def run(
        self, source: IO[bytes], folder: str, number: bytes, deadline: float
    ) -> tuple[bytes | None, int]:
        """What the child reported (None if it ran out of time), and its exit status."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                ours.sendall(number)
                socket.send_fds(self.line, [folder.encode()], [source.fileno(), theirs.fileno()])
            report = _read(ours, deadline)
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


def _run_child(
    source: IO[bytes], folder: str, number: bytes, deadline: float
) -> tuple[bytes | None, int]:
    try:
        starter = _idle.pop()
    except IndexError:
        starter = _Starter()
    try:
        answer = starter.run(source, folder, number, deadline)
    except BaseException as error:  # in the middle of a program: never to be used again
        starter.close()
        if isinstance(error, OSError):
            raise SandboxError(f"generated programs cannot be started: {error}") from error
        raise
    _idle.append(starter)
    return answer


def _read(line: socket.socket, deadline: float) -> bytes | None:
    """All that is reported, up to a limit; None if the far end stays open beyond the deadline."""
    report = b""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while len(report) <= LONGEST_REPORT:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            try:
                chunk = line.recv(LONGEST_REPORT)
            except ConnectionResetError:  # the child is gone, and never read its number
                break
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


@functools.cache
def missing_walls() -> str:
    """What generated code is not kept from on this machine, in one line; empty is good."""
    return run_program("pass", timeout_s=10).missing


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
        programs = [predictions[i][j] for i, j in jobs]
        tests = [references[i] for i, _ in jobs]

        outcomes = _outcomes(programs, tests, timeout, num_workers or self.workers)
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


def _outcomes(
    programs: Sequence[str], tests: Sequence[str], timeout: float, workers: int
) -> list[Outcome]:
    """Of each program with its test, some of them at a time."""

    def run(program: str, test: str) -> Outcome:
        return run_program(program, timeout, test=test)

    pool = ThreadPoolExecutor(workers)
    try:
        outcomes = list(pool.map(run, programs, tests))
    except BaseException:  # a run that is stopped waits for none of them
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return outcomes
