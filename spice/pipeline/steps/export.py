"""Hand the chosen rows on to another trainer as soon as they are chosen, if that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spice.errors import InputError
from spice.messages import say, warn
from spice.pipeline.export import REGISTRY, entries, export
from spice.storage.files import check_writable, read_json

if TYPE_CHECKING:
    from spice.pipeline.settings import Export

KEY = "export.folder"


def check(asked: Export) -> None:
    """Refuse what could not be handed on once the rows are chosen.

    Raises:
        InputError: the folder cannot be written to, or what LLaMA-Factory keeps there be read.
    """
    if asked.to is not None and asked.folder is not None:
        folder = Path(asked.folder).expanduser()
        check_writable(folder, KEY)
        if asked.to == "llamafactory":
            entries(folder / REGISTRY)
    elif asked.folder is not None:
        raise InputError(f"{KEY}={asked.folder}: export.to says for whom, and is not given")


def hand_on(folder: Path, asked: Export) -> None:
    """Write the chosen rows of a run, and say where they are and what the trainer needs."""
    if asked.to is None or not read_json(folder / "selection.json")["ids"]:
        return
    done = export(folder, asked.to, Path(asked.folder) if asked.folder else None)
    say("export", f"{done.rows:,} rows for {asked.to}: {done.path}")
    for line in (f"{done.place}:", *done.config.splitlines()):
        say("export", line)
    for warning in done.warnings:
        warn("export", warning)
