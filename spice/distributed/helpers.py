"""The processes beside the run, where it starts them itself, and what each of them does."""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404
import sys

from spice.distributed.ranks import Rank

COMMAND = (sys.executable, "-m", "spice.distributed.serving")


class Helpers:
    """Processes of rank 1 and more on this machine."""

    def __init__(self, first: Rank) -> None:
        threads = {"OMP_NUM_THREADS": str(max(1, cores() // first.size))}
        told = {**threads, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.processes = [
            subprocess.Popen(COMMAND, env={**told, **first.next(by).variables()})  # nosec B603
            for by in range(1, first.size)
        ]

    def ended(self) -> str | None:
        """How one of them came to an end, if one has."""
        for number, process in enumerate(self.processes, start=1):
            code = process.poll()
            if code is not None:
                return f"process {number} was ended {_how(code)}"
        return None

    def end(self, patience: float) -> None:
        """Have none of them left, after so many seconds at most."""
        for process in self.processes:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "by SIGKILL, as is done where memory runs out"
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
