"""Data sets are asked for before anything costly: the mirror, the cache, the hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
from compose import composed, job

from spice.errors import InputError
from spice.pipeline.components import make
from spice.pipeline.run import run


def test_without_mirror_cache_or_hub_the_mirror_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    suite = make(composed("benchmarks=paper", "benchmarks.only=[gsm8k,humaneval]"), "benchmarks")
    with pytest.raises(InputError, match="gsm8k needs the data set openai/gsm8k") as refused:
        suite.check_data(tmp_path, aimed_at=False)
    assert "benchmarks.mirror=FOLDER" in str(refused.value)
    assert "\n" not in str(refused.value)
    (tmp_path / "hub-openai___gsm8k/openai___gsm8k/main/0.0.0/0123").mkdir(parents=True)
    suite.check_data(tmp_path, aimed_at=False)  # code is not run, so its data is not needed
    with pytest.raises(InputError, match="humaneval needs the data set openai/openai_humaneval"):
        suite.check_data(tmp_path, aimed_at=True)
    prepared = "hub-openai___openai_humaneval/openai___openai_humaneval/x/0.0.0/0123"
    (tmp_path / prepared).mkdir(parents=True)
    suite.check_data(tmp_path, aimed_at=True)


def test_a_run_without_its_data_sets_ends_before_it_reads_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    config = job(
        "benchmarks=paper", "data=jsonl", "data.paths=[no.jsonl]", f"cache_dir={tmp_path / 'c'}"
    )
    with pytest.raises(InputError, match=r"HF_DATASETS_OFFLINE is set.*benchmarks\.mirror"):
        run(config, tmp_path / "run")
