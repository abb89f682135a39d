"""A run folder belongs to one run: nothing in it is written over or mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spice.errors import InputError
from spice.messages import say
from spice.storage import locks
from spice.storage.files import publish, read_json

RESULTS = "results.json"
SO_FAR = "until.json"  # of a run that was to end before its results
LOCK = ".run.locked"
#: how a run is shown and logged, where it computes, how far it goes and whom its rows are handed to
#: may differ when it is taken up again
FREE = ("trainer", "logger", "names", "until", "plan", "limits", "export", "cache_dir", "hydra")


def check(folder: Path, config: DictConfig) -> None:
    """Refuse a folder in which a run of another configuration is finished.

    Raises:
        InputError: so it is.
    """
    if (folder / RESULTS).exists():
        plain: Any = OmegaConf.to_container(config, resolve=True)
        _check_same(folder, plain, "a finished run")


def refuse_finished(folder: Path) -> None:
    """Refuse a folder in which any run is finished.

    Raises:
        InputError: so it is.
    """
    if (folder / RESULTS).exists():
        raise InputError(f"{folder} holds a finished run already; nothing is written over")


def finished(folder: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The results of the run that is finished in its folder, None without.

    So a sweep that was killed goes on with the jobs that it lacks. ``inputs`` are the hashes of the
    pool and of the weights.

    Raises:
        InputError: that run had other rows or weights, or its results are damaged.
    """
    path = folder / RESULTS
    if not path.is_file():
        return None
    found = _parsed(path, read_json)
    before = found.get("inputs", {})
    if changed := sorted(name for name in inputs if inputs[name] != before.get(name)):
        raise InputError(
            f"{folder} holds a finished run of this configuration, but the "
            f"{' and the '.join(changed)} changed since; give this run a folder of its own by "
            "hydra.run.dir=…, or delete that one"
        )
    say(
        "done",
        f"{folder} holds this run's results already, by the code of then; nothing is made anew",
    )
    return found


@contextmanager
def claimed(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Write ``config.yaml`` and keep others out until the block ends.

    Raises:
        InputError: another run is at work in the folder, or an unfinished one of another
            configuration has left its files there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waits = locks.telling(str(folder), lambda told: say("run", f"{told}; is it at work?"))

    def told(watch: locks.Watch) -> None:
        """A job that is queued again may find the heart of its first time, on a lost machine."""
        if watch.holder.near or watch.beats:
            raise InputError(
                f"{folder}: another run is at work in this folder ({watch.holder}); give this one "
                "its own by hydra.run.dir=…"
            )
        waits(watch)

    with locks.held(folder / LOCK, told):
        refuse_finished(folder)  # the other has finished meanwhile
        _check_same(folder, config)
        (folder / SO_FAR).unlink(missing_ok=True)
        text = OmegaConf.to_yaml(OmegaConf.create(config))
        publish(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))
        yield


def _check_same(folder: Path, config: dict[str, Any], what: str = "an unfinished run") -> None:
    path = folder / "config.yaml"
    if not path.is_file():
        if what != "a finished run":
            return
        raise InputError(f"{folder} holds {what} of an unknown configuration: no {path.name}")
    found = _parsed(path, lambda path: OmegaConf.to_container(OmegaConf.load(path)))
    keys = sorted({*found, *config} - {*FREE})
    if differing := [key for key in keys if found.get(key) != config.get(key)]:
        raise InputError(
            f"{folder} holds {what} with other {', '.join(differing)}; give this run "
            "a folder of its own by hydra.run.dir=…, or delete that one"
        )


def _parsed(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        found = read(path)
    except (ValueError, YAMLError, OmegaConfBaseException):  # UTF-8 that is none included
        found = None
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} is damaged; delete {path.parent}, or give another hydra.run.dir")
    return found
