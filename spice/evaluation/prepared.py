"""What the datasets library prepares on disk, kept where it can neither be stale nor damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from spice.messages import say, warn
from spice.storage import locks, seals
from spice.storage.files import DIGITS


def load_prepared(
    load: Callable[..., Any], path: str, *given: Any, cache: Path, **more: Any
) -> Any:
    """A data set, prepared in a folder of ``cache`` that holds it alone.

    The folder of what is read from local files is called after a hash of their bytes: a changed
    mirror is never answered from old copies. What is prepared there is verified before it is read,
    and prepared anew if it is damaged.
    """
    where = cache / (_digest(_local(path, given, more)) or f"hub-{path.replace('/', '___')}")
    told = locks.telling(f"the data set {path}", lambda told: say("cache", told))
    with locks.held(where.with_name(f"{where.name}.locked"), told):
        if where.is_dir() and seals.damaged(where):
            warn("cache", f"{where} is damaged: made again")
            shutil.rmtree(where)
        known = _prepared(where)
        found = load(path, *given, **{"cache_dir": str(where), **more})
        if _prepared(where) != known:
            seals.seal(where, _prepared(where))
    return found


def _prepared(folder: Path) -> list[str]:
    """The names of what was prepared; locks come and go."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(n for p in files if (n := p.relative_to(folder).as_posix()) != seals.MANIFEST)


def _local(path: str, given: tuple[Any, ...], more: dict[str, Any]) -> list[Path]:
    """The files and folders on this machine that a data set is read from."""
    by_place = given[1:3]  # behind the configuration's name
    named = [path, *_texts((*by_place, more.get("data_dir"), more.get("data_files")))]
    return [place for name in named if (place := Path(name).expanduser()).exists()]


def _texts(value: Any) -> Iterator[str]:
    """All text in lists and mappings within each other."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _digest(places: list[Path]) -> str:
    """A hash of names and bytes of all files in some places; empty if there are none."""
    total, count = xxh3_128(), 0
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                total.update(f"{path.relative_to(place)}\0{seals.hash_of(path)}\0".encode())
                count += 1
    return f"local-{total.hexdigest()[:DIGITS]}" if count else ""
