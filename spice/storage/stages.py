"""Stages keyed by content: the same inputs never cost twice, others never pass for the same.

A stage's key is the hash of all that goes into it. Its folder ``<root>/<stage>/<key>`` is built
beside its place and renamed into it when whole, and on disk. What a crash leaves behind is found
again by the next run, which goes on from there.

A finished stage's files are verified when a process reads it for the first time, as
:mod:`spice.storage.seals` says. What is damaged is dropped, and the stage is made again from what
is left, as if it had been interrupted: builders verify what they go on from.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spice.errors import InputError
from spice.storage import disk, locks, seals
from spice.storage.files import clear, short_hash, sync, write_json


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
            InputError: the cache cannot be written or its disk is full, or what is in the stage's
                place was made from other inputs.
        """
        inputs = _canonical(inputs)
        key = self.keys[stage] = digest(inputs)
        folder = self.root / stage / key
        start = time.perf_counter()
        reused = self._finished(folder, inputs)
        built = False
        while not (reused or built):
            with self._lock(stage, folder) as lock:
                reused = self._finished(folder, inputs)
                built = not reused and self._built(stage, folder, inputs, build, lock)
        return Done(stage, key, folder, reused, time.perf_counter() - start)

    def _built(
        self,
        stage: str,
        folder: Path,
        inputs: dict[str, Any],
        build: Callable[[Path], None],
        lock: locks.Lock,
    ) -> bool:
        """Build a stage; False if another run has taken its lock over meanwhile.

        The partial folder bears the holder's name, and who takes over gives it another: what a
        process still writes that was suspended and taken for dead goes nowhere.
        """
        partial = folder.with_name(f"{folder.name}.{lock.me.nonce}.partial")
        try:
            self._begin(stage, folder, partial)
            build(partial)
            write_json(partial / "inputs.json", inputs)
            seals.seal(partial)
            partial.rename(folder)
            sync(folder.parent)
        except Exception as error:
            if lock.lost:
                self.say(stage, f"held up for so long that another run has taken over {folder}")
                return False
            if told := disk.refusal(error, partial):
                raise InputError(told) from error
            raise
        return True

    def _begin(self, stage: str, folder: Path, partial: Path) -> None:
        """Make the partial folder, of what a run has left that was interrupted or damaged."""
        left = sorted(folder.parent.glob(f"{folder.name}*.partial"), key=os.path.getmtime)
        if left:
            left[-1].rename(partial)
        for older in left[:-1]:
            shutil.rmtree(older)
        if folder.is_dir():
            self._drop_damaged(stage, folder, partial)
        elif left:
            self.say(stage, f"going on from what an interrupted run left in {partial}")
        partial.mkdir(exist_ok=True)
        clear(partial)

    def _drop_damaged(self, stage: str, folder: Path, partial: Path) -> None:
        """Make a damaged stage an unfinished one, of what is whole in it."""
        names = seals.damaged(folder)
        told = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
        self.say(stage, f"{folder} is damaged ({told}): made again")
        whole = seals.vouched(folder, names)
        for entry in {path.name for path in folder.iterdir()} - whole:
            path = folder / entry
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if partial.is_dir():
            shutil.rmtree(folder)
        else:
            folder.rename(partial)

    @staticmethod
    def _finished(folder: Path, inputs: dict[str, Any]) -> bool:
        """Whether a stage is there and whole."""
        if not folder.is_dir() or seals.damaged(folder):
            return False
        found = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
        if digest(found) != digest(inputs):
            raise InputError(f"{folder}: made from other inputs than its name says; delete it")
        return True

    @contextmanager
    def _lock(self, stage: str, folder: Path) -> Iterator[locks.Lock]:
        lock = locks.Lock(folder.with_name(f"{folder.name}.locked"))
        told = locks.telling(f"{stage}/{folder.name}", lambda told: self.say(stage, told))
        try:
            if before := lock.acquire(told):
                self.say(stage, f"taken over from {before}: it is no more")
        except OSError as error:
            lost = f"; {folder} is damaged: delete it" if folder.is_dir() else ""
            why = disk.why(error.errno, folder.parent)
            raise InputError(
                f"cache_dir: {folder.parent} cannot be written: {why}{lost}"
            ) from error
        try:
            yield lock
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
