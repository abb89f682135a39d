"""A store cannot lie: what was damaged since is made again, or named, and never believed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

OPTIONS = ["gradients.projection=256", "benchmarks=sandbox", "benchmarks.only=[mmlu]",
           "benchmarks.limit=2"]  # fmt: skip


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(cache: Path) -> list[Path]:
    return sorted(p for p in cache.rglob("*") if p.is_file())


def facts(folder: Path) -> dict[str, Any]:
    """All that a run found, and nothing of how long it took."""
    names = ("selection.json", "selection_report.json", "health.json")
    found = {name: json.loads((folder / name).read_text()) for name in names}
    found["selection.json"].pop("config")
    results = json.loads((folder / "results.json").read_text())
    found |= {name: results[name] for name in ("scores", "keys", "average")}
    kept = [*folder.glob("samples/*"), *folder.glob("adapter/*.safetensors")]
    return found | {path.name: path.read_bytes() for path in kept}


@pytest.mark.slow
def test_a_flipped_byte_in_any_file_of_the_cache_changes_no_result(
    start: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "spice")
    start(*OPTIONS)
    right, cache, whole = facts(tmp_path / "run0"), tmp_path / "cache", tmp_path / "whole"
    shutil.copytree(cache, whole)
    stages = {stage.name: [p.relative_to(cache) for p in files(stage)] for stage in cache.iterdir()}
    assert set(stages) == {
        "gradients", "orders", "selection", "finetune", "scores", "weights", "rows", "tokens"
    }  # fmt: skip
    chosen = [name for name in stages["selection"] if name.suffix != ".seconds"]
    for turn in range(max(map(len, stages.values()))):
        shutil.rmtree(cache)
        shutil.copytree(whole, cache)
        hit = {stage: names[turn] for stage, names in stages.items() if turn < len(names)}
        # without a damaged selection nothing that it is made of would be read
        hit["selection"] = chosen[turn % len(chosen)]
        for name in hit.values():
            flip(cache / name)
        caplog.clear()
        start(*OPTIONS, folder=tmp_path / f"turn{turn}")
        assert facts(tmp_path / f"turn{turn}") == right, hit
        told = [record.message for record in caplog.records if "is damaged" in record.message]
        assert len(told) == len(hit), (hit, told)
        assert all(any(name.parts[1] in line for line in told) for name in hit.values())


# -- what an interrupted run left ------------------------------------------------------------


class CutOffError(Exception):
    pass


def cut(*given: Any, **more: Any) -> None:
    raise CutOffError


HARM: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x00garbage\xff" * 99),
    "deleted": lambda path: path.unlink(),
}
WINDOWS = ["schedule=pools", "schedule.pool_size=8", "schedule.refresh_every=2"]
TARGETS = ["benchmarks=sandbox", "benchmarks.only=[mmlu]", "validation.per_task=1"]
STATE, FIRST, LATER = (
    f"learning/{n}" for n in ("state.pt", "window-000000.json", "window-000004.json")
)
ADAPTER = [
    f"adapter/{name}" for name in ("adapter_model.safetensors", "adapter_config.json", "files.json")
]
#: options, what is cut off, and which file of what was left is harmed in which way
LEFT: dict[str, tuple[list[str], str, list[tuple[str, str]]]] = {
    "windows": (
        [*WINDOWS, "finetune=none"], "spice.reporting.diagnostics.report",
        [(STATE, "flipped"), (FIRST, "deleted"), (FIRST, "flipped"), (LATER, "emptied")],
    ),
    "rounds": (
        ["selector=lead", "budget=12", "finetune=none"], "spice.reporting.diagnostics.report",
        [(STATE, "flipped"), (STATE, "truncated"), (STATE, "garbage")],
    ),
    "tuning": (
        ["selector=random", "finetune.checkpoint_every=1"], "peft.PeftModel.save_pretrained",
        [("checkpoints/last.ckpt", how) for how in ("flipped", "truncated", "emptied")],
    ),
    "less": (
        ["selector=less", "finetune=none", "selector.warmup_share=0.5",
         "selector.recipe.batch_size=8", *TARGETS],
        "spice.signals.influence._cosines",
        [("epoch-0.safetensors", "flipped"), ("epoch-3.safetensors", "truncated"),
         ("epoch-2.safetensors", "deleted")],
    ),
    "experience": (
        ["selector=ifd_experienced", "selector.experience.choose=random",
         "selector.experience.share=0.5", "finetune=none"], "spice.signals.experience.read_off",
        [(ADAPTER[0], "flipped"), (ADAPTER[1], "emptied"), (ADAPTER[2], "deleted")],
    ),
    "gradients": (
        ["gradients.shard_rows=16", "finetune=none"], "spice.gradients.store.length_order",
        [("*.safetensors", "flipped"), ("metadata.json", "truncated")],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_what_was_left_is_made_again_where_it_is_damaged(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options, place, kept = LEFT[name]
    cache, whole = tmp_path / "cache", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(place, cut)
        with pytest.raises(CutOffError):
            start(*options)
    shutil.copytree(cache, whole)
    start(*options, folder=tmp_path / "right")
    right = chosen(tmp_path / "right")
    for number, (pattern, how) in enumerate(kept):
        shutil.rmtree(cache)
        shutil.copytree(whole, cache)
        HARM[how](min(cache.glob(f"*/*.partial/{pattern}")))
        start(*options, folder=tmp_path / f"{number}")
        assert chosen(tmp_path / f"{number}") == right, (pattern, how)


def chosen(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "selection.json").read_text())
    found.pop("config")
    adapters = folder.glob("adapter/*.safetensors")
    return found | {path.name: path.read_bytes() for path in adapters}
