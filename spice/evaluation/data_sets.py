"""Whether the benchmarks' data sets can be had, asked before anything costly is done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spice.errors import InputError

WAIT = 10  # seconds for the hub's answer


def check_available(data_sets: Iterable[tuple[str, str]], cache: Path) -> None:
    """Refuse (benchmark, data set of the hub) of which neither the cache nor the hub has the data.

    Raises:
        InputError: so it is; the first of them is named.
    """
    for name, hub_id in data_sets:
        here = _prepared(cache, hub_id) or _downloaded(hub_id)
        if not here and (why := _withheld(hub_id)):
            raise InputError(
                f"benchmarks.mirror=null: {name} needs the data set {hub_id}, which is not in "
                f"{cache} and cannot be fetched ({why}); name a folder that has it as {hub_id}: "
                "benchmarks.mirror=FOLDER"
            )


def _prepared(cache: Path, hub_id: str) -> bool:
    """Whether datasets has prepared it there, in a folder for each configuration and version."""
    plain = hub_id.replace("/", "").replace("_", "").lower()
    folders = cache.glob("hub-*/*___*/*/*/*")
    return any(path.parents[2].name.replace("_", "").lower() == plain for path in folders)


def _downloaded(hub_id: str) -> bool:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{hub_id.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def _withheld(hub_id: str) -> str | None:
    """Why the hub does not give a data set, or None."""
    from huggingface_hub import HfApi

    if os.environ.get("HF_DATASETS_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_DATASETS_OFFLINE is set"
    try:
        HfApi().dataset_info(hub_id, timeout=WAIT)
    except Exception as error:  # of the hub's client, of the network, of a proxy
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None


def check_mirrored(name: str, folder: Path) -> None:
    """Refuse a data set that is not in the hub's own layout: a README whose front matter lists
    ``configs``.

    Raises:
        InputError: so it is.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        raise InputError(f"benchmarks.mirror lacks {name}: expected {readme}")
    configs = _front_matter(readme).get("configs")
    if not configs:
        raise InputError(f"benchmarks.mirror: the front matter of {readme} lists no configs")
    try:
        patterns = [p for config in configs for p in file_patterns(config.get("data_files", []))]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"benchmarks.mirror: the front matter of {readme} must list configs, each with a "
            "config_name and data_files"
        ) from error
    for pattern in patterns:
        if not _matches(folder, pattern):
            raise InputError(f"benchmarks.mirror: {folder} lacks {pattern}, which its README lists")


def file_patterns(data_files: str | Iterable[Any]) -> list[str]:
    """The file patterns of a config: one, several, or several per split.

    Raises:
        TypeError: it is nothing of these.
    """
    entries = [data_files] if isinstance(data_files, str) else list(data_files)
    paths = [entry["path"] if isinstance(entry, dict) else entry for entry in entries]
    found = [p for path in paths for p in ([path] if isinstance(path, str) else path)]
    if not all(isinstance(pattern, str) for pattern in found):
        raise TypeError("a pattern must be text")
    return found


def _matches(folder: Path, pattern: str) -> bool:
    try:
        return any(folder.glob(pattern))
    except (ValueError, NotImplementedError):  # no pattern at all, or one from the root
        return False


def _front_matter(readme: Path) -> dict[str, Any]:
    import yaml

    try:
        head, _, rest = readme.read_text(encoding="utf-8").partition("---\n")
        found = yaml.safe_load(rest.partition("\n---")[0]) if not head else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"benchmarks.mirror: {readme} has a broken front matter") from error
    return found if isinstance(found, dict) else {}
