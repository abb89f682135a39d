"""Runs of the product as processes that can be killed, each without paying for the imports again.

A server that has imported everything forks a process per run (multiprocessing's forkserver), so a
run costs what it does and not eight seconds more. A *trap* stops a run from inside at its n-th
change of a file, which is the same moment on any machine.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

IMPORTED = [
    "datasets", "lm_eval", "matplotlib.pyplot", "peft", "pytorch_lightning", "sklearn.cluster",
    "spice.__main__", "spice.evaluation.evaluation", "spice.gradients.work",
    "spice.pipeline.run", "spice.training.finetune",
]  # fmt: skip
#: what changes a file, of what Python tells of itself: https://peps.python.org/pep-0578
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "open"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative: the signal that killed it) and what it printed."""

    code: int
    said: str
    seconds: float

    @property
    def traceback(self) -> bool:
        """Whether a user saw one."""
        return "Traceback (most recent call last)" in self.said

    @property
    def refusal(self) -> str:
        """The lines of ``spice: …`` that a refused run ends with, if it has any."""
        found = re.search(r"^spice: .*\Z", self.said, re.MULTILINE | re.DOTALL)
        return found[0].strip() if found else ""

    def brief(self) -> str:
        """Exit code and last words, for a line of the report."""
        words = self.refusal or (self.said.strip().splitlines() or ["nothing said"])[-1]
        return f"exit {self.code}: {' / '.join(words.splitlines())[:240]}"


@dataclass
class Job:
    """A run that is going on."""

    process: Any
    log: Path
    began: float

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def children(self) -> list[psutil.Process]:
        """All that it has started, and those in turn."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def wait(self, timeout: float) -> Ended:
        """Its end; what takes longer is killed and counts as hanging (code 124)."""
        self.process.join(max(0.0, timeout))
        code = self.process.exitcode
        if code is None:
            for child in self.children():
                child.kill()
            self.process.kill()
            self.process.join()
            code = 124
        said = self.log.read_text(encoding="utf-8", errors="replace")
        return Ended(code, said, time.monotonic() - self.began)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.exitcode is None


class Jobs:
    """Starts runs; ``environment`` is added to each run's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(IMPORTED)

    def start(self, *argv: str, folder: Path, trap: int | None = None, **environment: str) -> Job:
        """``spice argv`` with ``folder`` as the working folder, killed at its ``trap``-th change.

        Each start has a log of its own in ``folder``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"said-{sum(1 for _ in folder.glob('said-*')):03d}.log"
        log.touch()
        process = self.context.Process(
            target=_run, args=(argv, str(folder), str(log), self.environment | environment, trap)
        )
        process.start()
        return Job(process, log, time.monotonic())

    def run(self, *argv: str, folder: Path, timeout: float = 300, **environment: str) -> Ended:
        """A run from its start to its end."""
        return self.start(*argv, folder=folder, **environment).wait(timeout)


def _run(
    argv: Sequence[str], folder: str, log: str, environment: dict[str, str], trap: int | None
) -> None:
    """In the new process: what the entry point does, with everything printed going to ``log``."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["spice", *argv]
    if trap is not None:
        _set_trap(trap)
    import torch

    from spice.__main__ import main

    torch.set_num_threads(1)
    main()


def _set_trap(at: int) -> None:
    """Die, without any farewell, at the n-th change of a file."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES or (event == "open" and not _writes(arguments)):
            return
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return isinstance(path, str | os.PathLike) and bool((flags or 0) & WRITING)
