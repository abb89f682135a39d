"""Medians of several runs in one process, and their ratios: all that a busy machine leaves true."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


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


def table(title: str, seconds: Mapping[str, float]) -> str:
    """The medians, and each as a multiple of the first."""
    first = next(iter(seconds.values()))
    lines = [f"\n{title}", f"{'':<44}{'median':>10}{'ratio':>9}"]
    lines += [f"{name:<44}{s * 1e3:>7.1f} ms{s / first:>9.2f}" for name, s in seconds.items()]
    return "\n".join(lines)
