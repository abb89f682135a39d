"""The command line, timed, with the memory of all its processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil


def run(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    """Seconds by step and in all, and the most bytes that its processes held together."""
    to, told = folder / f"run-{name}", folder / f"{name}.log"
    start = time.perf_counter()
    program = [sys.executable, "-m", "spice", *arguments, f"hydra.run.dir={to}"]
    with told.open("w", encoding="utf-8") as log:
        begun = subprocess.Popen(program, stdout=log, stderr=log)
        peak = peak_of(begun)
    said = told.read_text(encoding="utf-8")
    if begun.returncode:
        raise RuntimeError(said[-2000:])
    results = json.loads((to / "results.json").read_text(encoding="utf-8"))
    tokens = re.search(r"tokens +key \w+, ([0-9.]+) s", said)
    return {
        "seconds": time.perf_counter() - start,
        "steps": results["seconds"],
        "tokens": float(tokens[1]) if tokens else 0.0,
        "peak": peak,
        "n": results["n"],
        "k": results["k"],
    }


def peak_of(begun: subprocess.Popen[bytes]) -> int:
    """Wait for a program; pages that processes share count once, those of mapped files too."""
    peak, ended = 0, threading.Event()
    threading.Thread(target=lambda: (begun.wait(), ended.set()), daemon=True).start()
    while not ended.wait(0.5):
        peak = max(peak, held(begun.pid))
    return peak


def held(pid: int) -> int:
    """Bytes of a process and all below it."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(map(_own, family))


def _own(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.Error, OSError):
        return 0
