"""Medians of several runs in one process, and their ratios: all that a busy machine leaves true."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def medians(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way; the ways take turns, so that a busy spell hits all of them."""
    for way in ways.values():
        way()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a fresh process, whose peak memory is then that of the measurement."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(measure, *arguments).result()


def peak_memory() -> int:
    """The most bytes that this process has held, mapped files included where they were read.

    On Linux of this program alone: what ``getrusage`` tells there begins with the parent's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))
        return 1024 * int(kilobytes)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def forget_peak() -> int:
    """Bytes held now, from which a new peak is taken where Linux lets it; else the peak so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_memory()
