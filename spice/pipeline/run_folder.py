"""A run folder belongs to one run: nothing in it is written over or mixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from spice.errors import InputError

LOCK = ".run.lock"
#: how a run is shown and logged, and where it computes, may differ when it is taken up again
FREE = ("trainer", "logger", "names", "plan", "limits", "cache_dir", "hydra")


def check(folder: Path) -> None:
    """Refuse a folder whose run is finished.

    Raises:
        InputError: so it is.
    """
    if (folder / "results.json").exists():
        raise InputError(f"{folder} holds a finished run already; nothing is written over")


@contextmanager
def claimed(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Write ``config.yaml`` and keep others out until the block ends.

    Raises:
        InputError: another run is at work in the folder, or an unfinished one of another
            configuration has left its files there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder}: another run is at work in this folder; give this one its own by "
            "hydra.run.dir=…"
        ) from None
    try:
        check(folder)  # again: the other may have finished meanwhile
        _check_same(folder, config)
        (folder / "config.yaml").write_text(
            OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8"
        )
        yield
    finally:
        lock.release()


def _check_same(folder: Path, config: dict[str, Any]) -> None:
    path = folder / "config.yaml"
    if not path.is_file():
        return
    found: Any = OmegaConf.to_container(OmegaConf.load(path))
    keys = sorted({*found, *config} - {*FREE})
    if differing := [key for key in keys if found.get(key) != config.get(key)]:
        raise InputError(
            f"{folder} holds an unfinished run with other {', '.join(differing)}; give this run "
            "a folder of its own by hydra.run.dir=…, or delete that one"
        )
