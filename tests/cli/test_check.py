"""``spice check``: everything wrong in one answer, or what a run would begin with; nothing done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spice.cli.check import check

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def sound(
    make_checkpoint: MakeCheckpoint,
    write_jsonl: Callable[..., Path],
    records: list[Any],
    tmp_path: Path,
) -> list[str]:
    """Overrides with nothing wrong."""
    folder = make_checkpoint("llama")
    return [
        "data=jsonl",
        f"data.paths=[{write_jsonl(records)}]",
        "proxy=local",
        f"proxy.path={folder}",
        "model=local",
        f"model.path={folder}",
        "benchmarks=none",
        "logger=csv",
        f"cache_dir={tmp_path / 'cache'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]


def mistakes(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[str]:
    assert check(overrides) == 2
    shown = capsys.readouterr()
    assert not shown.out
    first, *rest = shown.err.splitlines()
    assert first == f"spice check: {len(rest)} thing{'s' * (len(rest) > 1)} to mend"
    return [re.sub(r"^  \d+\. ", "", line) for line in rest]


def test_what_a_run_would_begin_with_is_told_and_nothing_is_written(
    sound: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert check(sound) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "pool 40 rows of 2 sources: words 20, math 20" in shown
    assert "llama, 21,920 parameters of 87.7 kB in float32, 2 layers of 32, up to 128" in shown
    assert "128 tokens, plain template" in shown
    assert "lora of proxy r=16, 28 factors of 14,848 parameters" in shown
    assert "selector spice, 4 of 40 rows" in shown
    assert "nothing is wrong" in shown
    assert "about" not in shown  # of so few rows all are counted
    assert sorted(tmp_path.rglob("*")) == before


def test_all_mistakes_come_at_once_each_once(
    sound: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = mistakes(
        capsys,
        *[override for override in sound if "model" not in override],
        "model=local",
        f"model.path={tmp_path / 'gone'}",
        "selector.penality=1",
        "data.paths=[nowhere.jsonl]",
        "lora.targets=[q_porj]",
        "benchmarks=paper",
        "benchmarks.mirror=nomirror",
        "trainer.devices=0",
    )
    for said in (
        "no such key: selector.penality. Did you mean 'penalty'?",
        "data.paths: no such file: nowhere.jsonl",
        f"model.path: no such folder: {tmp_path / 'gone'}",
        "no linear layer is called q_porj. Did you mean 'q_proj'?",
        "benchmarks.mirror: no such folder: nomirror",
        "trainer.devices=0",
    ):
        assert sum(said in line for line in found) == 1, (said, found)
    assert len(found) == 6


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("budget=5000", "the pool has only 40 rows"),
        ("selector=spcie", "Did you mean 'spice'?"),
        ("proxy.path=???", "proxy.path is missing"),
        ("+selector.foo=1", "foo"),
        ("budget=???", "budget"),
        ("template.mode=chat", "has no chat template"),
        ("proxy.dtype=int8", "proxy.dtype=int8"),
        ("-m", "check looks at one run"),
    ],
)
def test_one_mistake_is_told_alone(
    sound: list[str], capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    (found,) = mistakes(capsys, *sound, override)
    assert said in found


def test_a_bad_row_is_named(
    sound: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = write_jsonl([*records[:4], {"instruction": "nobody answers"}], "bad.jsonl")
    (found,) = mistakes(capsys, *sound, f"data.paths=[{bad}]")
    assert "bad.jsonl:5: no response" in found


def test_places_that_cannot_be_written_are_told(
    sound: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "done").mkdir()
    (tmp_path / "done/results.json").write_text("{}")
    options = [f"cache_dir={tmp_path / 'file/cache'}", f"hydra.run.dir={tmp_path / 'done'}"]
    folder, cache = mistakes(capsys, *sound, *options)
    assert "holds a finished run of an unknown configuration" in folder
    assert (
        cache == f"cache_dir: {tmp_path}/file/cache cannot be a folder: {tmp_path}/file is a file"
    )


def test_benchmarks_of_the_sandbox_are_counted(
    sound: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["benchmarks=sandbox", "benchmarks.only=[mmlu,humaneval]", "benchmarks.limit=7"]
    assert check([*sound, *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mmlu (14 items), humaneval (skipped: runs generated code" in shown


def test_data_sets_that_cannot_be_had_are_told_before_a_run_begins(
    sound: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (found,) = mistakes(capsys, *sound, "benchmarks=paper", "benchmarks.only=gsm8k")
    assert "gsm8k needs the data set openai/gsm8k" in found
    assert "name a folder that has it as openai/gsm8k: benchmarks.mirror=FOLDER" in found
    prepared = "cache/datasets/hub-openai___gsm8k/openai___gsm8k/main/0.0.0/abc"
    (tmp_path / prepared).mkdir(parents=True)
    assert check([*sound, "benchmarks=paper", "benchmarks.only=gsm8k"]) == 0


def test_the_command_is_the_first_word(sound: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spice", "check", *sound, "seed=3", "proxy.path=gone"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "spice check: 1 thing to mend",
        "  1. proxy.path: no such folder: gone",
    ]
    assert not (tmp_path / "run").exists()


def test_a_model_larger_than_the_memory_is_told_with_the_way_out(
    sound: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spice.pipeline.check.memory", lambda accelerator: 50_000)
    assert check(sound) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "proxy: its weights take 87.7 kB, and there are 50.0 kB of memory" in shown
    assert "model.quantization=4bit is less" in shown


def test_bits_and_layers_that_cannot_be_are_refused(
    sound: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = mistakes(capsys, *sound, "model.quantization=3bit", "gradients.lora.layers=9")
    assert told[0].startswith("model.quantization=3bit: must be 4bit or 8bit")
    folder = next(word for word in sound if word.startswith("proxy.path=")).partition("=")[2]
    assert told[1:] == [f"lora.layers=9: {folder} has 2 layers"]
    divided = "trainer.strategy=fsdp", "trainer.devices=2"
    told = mistakes(capsys, *sound, "proxy.quantization=4bit", *divided)
    refused = "trainer.strategy=fsdp: proxy.quantization=4bit is not divided among processes"
    assert any(line.startswith(refused) for line in told)
