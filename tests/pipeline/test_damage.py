"""A store cannot lie: what was damaged since is made again, or named, and never believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

OPTIONS = ["gradients.projection=256",
           "gradients.shard_rows=16", "gradients.dtype=int8", "benchmarks=sandbox",
           "benchmarks.only=[mmlu]", "benchmarks.limit=2"]  # fmt: skip


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(cache: Path) -> list[Path]:
    return sorted(p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def facts(folder: Path) -> dict[str, Any]:
    """All that a run found, and nothing of how long it took."""
    names = ("selection.json", "selection_report.json", "health.json")
    found = {name: json.loads((folder / name).read_text()) for name in names}
    found["selection.json"].pop("config")
    results = json.loads((folder / "results.json").read_text())
    found |= {name: results[name] for name in ("scores", "keys", "average")}
    kept = [*folder.glob("samples/*"), *folder.glob("adapter/*.safetensors")]
    return found | {path.name: path.read_bytes() for path in kept}


def test_a_flipped_byte_in_any_file_of_the_cache_changes_no_result(
    start: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time with all that is made of what is damaged still there, and with none of it."""
    start(*OPTIONS)
    right, cache, whole = facts(tmp_path / "run0"), tmp_path / "cache", tmp_path / "whole"
    shutil.copytree(cache, whole)
    names = [path.relative_to(cache) for path in files(cache)]
    assert {name.parts[0] for name in names} == {
        "gradients", "orders", "selection", "finetune", "scores", "weights",
    }  # fmt: skip
    for number, name in enumerate(names):
        later = {"gradients": ("orders", "selection"), "orders": ("selection",)}
        for dropped in ((), later.get(name.parts[0], ())):
            shutil.rmtree(cache)
            shutil.copytree(whole, cache)
            for stage in dropped:
                shutil.rmtree(cache / stage)
            flip(cache / name)
            folder = tmp_path / f"{number}-{len(dropped)}"
            caplog.clear()
            start(*OPTIONS, folder=folder)
            assert facts(folder) == right, name
            told = [r.message for r in caplog.records if "damaged" in r.message]
            read = dropped or name.parts[0] not in later
            assert len(told) == bool(read), (name, told)
