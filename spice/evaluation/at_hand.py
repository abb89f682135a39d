"""Whether benchmarks' data can be had, asked before anything is trained for them."""

from __future__ import annotations

import os
from pathlib import Path

from spice.errors import InputError
from spice.evaluation.benchmarks import Suite

SECONDS = 10  # until the hub is taken to be out of reach


def check_data(suite: Suite, cache: Path) -> None:
    """Refuse a suite with a data set that is neither on this machine nor on the hub.

    A mirror's were looked at by :meth:`spice.evaluation.benchmarks.Suite.check`. ``cache`` is where
    prepared data sets are kept.

    Raises:
        InputError: there is one; with the way out.
    """
    if suite.mirror_path is not None:
        return
    for name in suite.names:
        if suite.skip_reason(name) is None:
            for hub_id in suite.tasks[name].datasets:
                if not (_prepared(hub_id, cache) or _downloaded(hub_id)):
                    _ask_the_hub(name, hub_id)


def _prepared(hub_id: str, cache: Path) -> bool:
    """As datasets names the folders of what it has made ready."""
    owner, _, name = hub_id.partition("/")
    return any(path.is_dir() for path in cache.glob(f"**/{owner}___{name.lower()}"))


def _downloaded(hub_id: str) -> bool:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{hub_id.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def _ask_the_hub(name: str, hub_id: str) -> None:
    from huggingface_hub import HfApi

    try:
        if os.environ.get("HF_DATASETS_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
            raise ConnectionError("HF_DATASETS_OFFLINE is set")
        HfApi().dataset_info(hub_id, timeout=SECONDS)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"benchmarks: {name} needs the data set {hub_id}, which is not on this machine and "
            f"cannot be fetched ({reason}); benchmarks.mirror=DIR reads it from DIR/{hub_id}"
        ) from error
