"""Finished and half-finished caches in which one file is damaged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.faults.cases import Tally, differing, facts
from experiments.faults.jobs import Jobs
from experiments.faults.kills import TIMEOUT, Undisturbed, arguments

Damage = Callable[[Path, random.Random], None]


def flipped(path: Path, draw: random.Random) -> None:
    """One bit, anywhere."""
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def zeroed(path: Path, draw: random.Random) -> None:
    """A part of it, as after a crash of the file system."""
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content) + 1)
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


def truncated(path: Path, draw: random.Random) -> None:
    """Cut off somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def emptied(path: Path, _: random.Random) -> None:
    """Of no length."""
    path.write_bytes(b"")


def garbage(path: Path, draw: random.Random) -> None:
    """As long as before, and nothing of what it was."""
    path.write_bytes(draw.randbytes(path.stat().st_size))


def deleted(path: Path, _: random.Random) -> None:
    """Gone."""
    path.unlink()


DAMAGES: Sequence[Damage] = (flipped, zeroed, truncated, emptied, garbage, deleted)


def kinds(cache: Path) -> dict[str, list[Path]]:
    """The files of a cache by what they are: folders' keys and numbers do not tell them apart."""
    found: dict[str, list[Path]] = {}
    for path in sorted(cache.rglob("*")):
        if not path.is_file() or path.suffix == ".lock":
            continue
        parts = path.relative_to(cache).parts
        name = parts[-1] if len(parts[-1]) < 16 else f"*{path.suffix}"
        folders = [part for part in parts[:-1] if len(part) < 16]
        found.setdefault("/".join([*folders, name]), []).append(path)
    return found


def damaged(jobs: Jobs, home: Path, golden: Undisturbed, seed: int, tally: Tally) -> None:
    """One case: another seed of the same kinds of file, one way of damaging one of them.

    The run after it either comes to the same or is refused in one line that names a path.
    """
    draw = random.Random(f"damage {seed}")
    name = draw.choice(sorted(golden.facts))
    folder = home / f"damage-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / name / "cache", folder / "cache", symlinks=True)
    half = draw.random() < 0.4  # as if it had been killed before its stages were renamed into place
    if half:
        _unfinish(folder / "cache", draw)
    files = kinds(folder / "cache")
    kind = draw.choice(sorted(files))
    how = draw.choice(DAMAGES)
    victim = draw.choice(files[kind])
    how(victim, draw)
    ended = jobs.run(*arguments(name, folder), folder=folder, timeout=TIMEOUT)
    problems = [ended.brief() if ended.traceback or ended.code not in {0, 2} else ""]
    if ended.code == 0:
        problems.append(differing(facts(folder / "run", folder / "cache"), golden.facts[name]))
    elif ended.code == 2 and str(folder / "cache") not in ended.refusal:
        problems.append(f"refused without a path: {ended.brief()}")
    label = f"{seed}: {name}, {how.__name__} {kind}{', half finished' if half else ''}"
    tally.tell("damage", label, problems)
    shutil.rmtree(folder, ignore_errors=True)


def _unfinish(cache: Path, draw: random.Random) -> None:
    """Turn one finished stage back into what an interrupted run leaves behind."""
    stages = sorted(path.parent for path in cache.glob("*/*/inputs.json"))
    stage = draw.choice(stages)
    stage.rename(stage.with_name(f"{stage.name}.partial"))
    (stage.with_name(f"{stage.name}.partial") / "inputs.json").unlink()
    for other in stages:  # what was built on it is not there yet
        if other != stage and other.parent.name in {"selection", "finetune", "scores"}:
            shutil.rmtree(other, ignore_errors=True)
