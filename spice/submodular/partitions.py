"""Parts of a pool that a greedy goes through one by one, and how many of them it takes.

What a greedy has to hold grows with rows × picks; the rows themselves stay on disk. With p parts
the first of :mod:`two rounds <spice.submodular.two_rounds>` holds n/p rows' share of it at a time,
the second that of the p·k rows which the first chose. So memory is least at p = √(n/k), where it is
√(n/k) times less than for one greedy: a tenth of a pool is chosen in a third of the memory, a
hundredth in a tenth, and more parts than that help nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0  # not the run's own, so that seeds share one choice
SHARE = 0.5  # of the memory that one greedy may take
PLENTY = 2**30  # bytes that any machine has: up to here it is not even asked
CGROUP = Path("/sys/fs/cgroup")

#: what goes through the parts, as ``map`` does: one after the other, or several processes
Each = Callable[[Callable[[np.ndarray], Any], Iterable[np.ndarray]], Iterable[Any]]


@dataclass(frozen=True)
class Partition:
    """``count`` parts; ``of`` (n) is each candidate's. ``each`` does something to all of them."""

    of: np.ndarray
    count: int
    each: Each = map

    @classmethod
    def drawn(cls, ids: Sequence[str | int], count: int, seed: int = SEED) -> Partition:
        """Every row goes to a part drawn for its id alone.

        So where a row stands, which others there are and who does the work change nothing; and
        rows are spread independently, as the bound in :mod:`spice.submodular.certificate` asks.
        """
        return cls(np.array([_drawn(id, count, seed) for id in ids], dtype=np.int64), count)

    def parts(self) -> Iterator[np.ndarray]:
        """The candidates' positions (m) in each part that has any, rising."""
        found = (np.flatnonzero(self.of == number) for number in range(self.count))
        return (part for part in found if len(part))


def _drawn(id: str | int, count: int, seed: int) -> int:
    """From 64 bits, whose remainder favours no part by more than count/2⁶⁴."""
    digest = hashlib.blake2b(f"{seed} {id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count


def rows_of(n: int, k: int, count: int) -> tuple[int, int]:
    """How many rows the two rounds hold: the largest part, give or take, and the union."""
    part = -(-n // count)
    return part, min(n, count * min(k, part))


def peak(n: int, k: int, count: int, held: Callable[[int, int], int]) -> int:
    """Bytes of the larger round; ``held`` (rows, picks) are those of one greedy."""
    if count == 1:
        return held(n, k)
    return max(held(rows, min(k, rows)) for rows in rows_of(n, k, count))


def fewest(n: int, k: int, held: Callable[[int, int], int], room: int) -> int:
    """The least number of parts with which k picks of n fit into ``room`` bytes.

    Where none does it is the number that takes least.
    """
    counts = range(1, math.isqrt(n // max(k, 1)) + 2)
    fits = (count for count in counts if peak(n, k, count, held) <= room)
    return next(fits, min(counts, key=lambda count: peak(n, k, count, held)))


def memory() -> int:
    """Bytes that a greedy's columns can be held in here: a GPU's if there is one, else ours.

    All of them, not those that are free now: the same machine gives the same answer every time.
    """
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return min([int(psutil.virtual_memory().total), *_limits()])


def _limits() -> Iterator[int]:
    """What the process's control groups (second version) let it have, where they do."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            here = CGROUP / line.partition("::")[2].lstrip("/")
            for folder in (here, *here.parents):
                if (file := folder / "memory.max").is_file():
                    limit = file.read_text(encoding="utf-8").strip()
                    yield from [int(limit)] if limit.isdigit() else []
