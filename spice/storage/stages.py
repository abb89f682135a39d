"""Stages keyed by content: the same inputs never cost twice, others never pass for the same.

A stage's key is the hash of all that goes into it. Its folder ``<root>/<stage>/<key>`` is built
beside its place and renamed into it when whole. What a crash leaves behind is found again by the
next run, which goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spice.errors import InputError
from spice.storage.files import short_hash


@dataclass(frozen=True)
class Done:
    """A finished stage; ``reused`` if it was there already."""

    stage: str
    key: str
    folder: Path
    reused: bool
    seconds: float


class Stages:
    """The stages under one root folder; ``say(stage, message)`` hears of waiting and resuming."""

    def __init__(self, root: Path, say: Callable[[str, str], None]) -> None:
        self.root = root
        self.say = say
        #: the key of each stage run so far
        self.keys: dict[str, str] = {}

    def has(self, stage: str, inputs: dict[str, Any]) -> bool:
        """Whether a stage with these inputs is finished."""
        plain = _canonical(inputs)
        return self._finished(self.root / stage / digest(plain), plain)

    def folder(self, stage: str, inputs: dict[str, Any]) -> Path:
        """Where a stage with these inputs is, or would be."""
        return self.root / stage / digest(_canonical(inputs))

    def run(self, stage: str, inputs: dict[str, Any], build: Callable[[Path], None]) -> Done:
        """Return the stage's folder, calling ``build(partial folder)`` unless it is already there.

        Two runs that want the same stage: one builds, the other waits.

        Raises:
            InputError: the folder cannot be written, or what is in its place was made from other
                inputs or cannot be told.
        """
        inputs = _canonical(inputs)
        key = self.keys[stage] = digest(inputs)
        folder = self.root / stage / key
        start = time.perf_counter()
        if self._finished(folder, inputs):
            return Done(stage, key, folder, True, time.perf_counter() - start)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cache_dir: {folder.parent} cannot be written: {error}") from error
        with self._lock(stage, folder):
            reused = self._finished(folder, inputs)
            if not reused:
                self._build(stage, folder, inputs, build)
        return Done(stage, key, folder, reused, time.perf_counter() - start)

    def _build(
        self, stage: str, folder: Path, inputs: dict[str, Any], build: Callable[[Path], None]
    ) -> None:
        partial = folder.with_name(f"{folder.name}.partial")
        if partial.is_dir():
            self.say(stage, f"going on from what an interrupted run left in {partial}")
        partial.mkdir(exist_ok=True)
        build(partial)
        (partial / "inputs.json").write_text(
            json.dumps(inputs, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        partial.rename(folder)

    @staticmethod
    def _finished(folder: Path, inputs: dict[str, Any]) -> bool:
        if not folder.is_dir():
            return False
        try:
            found = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no readable inputs.json in it; delete it") from error
        if digest(found) != digest(inputs):
            raise InputError(f"{folder}: made from other inputs than its name says; delete it")
        return True

    @contextmanager
    def _lock(self, stage: str, folder: Path) -> Iterator[None]:
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.say(stage, f"waiting for another run that is building {folder}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def digest(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return short_hash(text.encode())


def _canonical(inputs: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(inputs, sort_keys=True, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a key")
