"""Hydra's errors in one line, with the nearest known name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from spice.errors import did_you_mean

if TYPE_CHECKING:
    pass


def conf_dir() -> Path:
    """The configuration: the copy that the wheel carries, or the source tree's."""
    package = Path(__file__).parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


def explain(error: Exception) -> str:
    """Hydra's message in one line, with the nearest known name."""
    message = str(error)
    group = re.search(r"Could not find '([\w/]+)/([^'/]+)'", message)
    if group:
        name, choice = group.groups()
        known = choices(name)
        return (
            f"{name}={choice}: no such {name}.{did_you_mean(choice, known)} "
            f"Known: {', '.join(known)}."
        )
    override = re.search(r"Could not override '([\w.@/]+)'", message)
    if override:
        return _unknown_key(override.group(1))
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def choices(group: str) -> list[str]:
    """The options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _unknown_key(key: str) -> str:
    """Say which keys there are where an override missed."""
    import yaml

    top, _, inner = key.partition(".")
    files = [conf_dir() / "config.yaml"]
    files += sorted((conf_dir() / top).glob("*.yaml")) if inner else []
    known: set[str] = set()
    for path in files:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        known |= set(found) - {"defaults", "_target_"}
    if not inner:
        known |= {path.name for path in conf_dir().iterdir() if path.is_dir()}
    hint = did_you_mean(inner.split(".")[0] or top, known)
    return f"no such key: {key}.{hint} `spice --help` lists the groups, `--cfg job` all keys."
