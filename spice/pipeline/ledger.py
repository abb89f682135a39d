"""What a run has cost so far, what it made, and what it found there already."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Ledger:
    """Seconds and keys by step, and the names of what was reused.

    Steps may be entered within others; each second is charged once, to the innermost.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.keys: dict[str, Any] = {}
        self.reused: list[str] = []
        self.paid: dict[str, float] = {}
        self.tokens: dict[str, dict[str, Any]] = {}  # by who reads them: their key, and if reused
        self._within: list[float] = []  # seconds spent in inner steps, by depth

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Charge a block to a step, less what inner blocks are charged with."""
        start = time.perf_counter()
        self._within.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._within.pop()
            if self._within:
                self._within[-1] += whole

    def note(self, name: str, key: Any, reused: bool, paid: float | None = None) -> None:
        """Remember what a step's product is told by, and whether it was there already.

        ``paid`` are the seconds of whoever made it, if they are known.
        """
        self.keys[name] = key
        if reused:
            self.reused.append(name)
        if paid is not None:
            self.paid[name] = round(paid, 3)
