"""Data sets that are prepared on disk: never those of other files, never damaged ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from spice.evaluation import surroundings


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write(tmp_path / "mirror", "one")
    return tmp_path / "mirror"


def write(mirror: Path, answer: str) -> None:
    """A mirror of one data set; its files' times say nothing of what is in them."""
    folder = mirror / "some" / "where"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text(f'{{"x": "{answer}"}}\n')
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: test\n"
        "    path: a.jsonl\n---\n"
    )
    for path in folder.iterdir():
        os.utime(path, (1, 1))


def read(mirror: Path, cache: Path, *given: Any, **more: Any) -> str:
    with surroundings.quiet(), surroundings.mirrored(mirror, cache):
        found = datasets.load_dataset(*(given or ("some/where", "small")), **more)["test"]
        return found.map(lambda row: {"x": row["x"] + "!"})["x"][0]


def test_a_changed_mirror_is_read_anew(mirror: Path, tmp_path: Path) -> None:
    assert read(mirror, tmp_path / "cache") == "one!"
    write(mirror, "two")
    assert read(mirror, tmp_path / "cache") == "two!"
    write(mirror, "one")
    assert read(mirror, tmp_path / "cache") == "one!"


def test_another_mirror_with_the_same_cache_is_another(mirror: Path, tmp_path: Path) -> None:
    assert read(mirror, tmp_path / "cache") == "one!"
    write(tmp_path / "other", "two")
    assert read(tmp_path / "other", tmp_path / "cache") == "two!"


def test_data_files_of_a_task_count_by_their_bytes(mirror: Path, tmp_path: Path) -> None:
    given = {"data_files": {"test": [str(mirror / "some/where/a.jsonl")]}}
    assert read(mirror, tmp_path / "cache", "json", **given) == "one!"
    write(mirror, "two")
    assert read(mirror, tmp_path / "cache", "json", **given) == "two!"


def test_what_is_prepared_is_prepared_once_and_tasks_leave_nothing(
    mirror: Path, tmp_path: Path
) -> None:
    read(mirror, tmp_path / "cache")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.arrow")}
    assert len(kept) == 1
    read(mirror, tmp_path / "cache")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.arrow")} == kept


def test_a_flipped_byte_in_any_prepared_file_is_found(
    mirror: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    read(mirror, cache)
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert {path.suffix for path in files} == {".arrow", ".json"}
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        caplog.clear()
        assert read(mirror, cache) == "one!"
        assert ["is damaged: made again" in r.message for r in caplog.records] == [True], path


def test_what_the_hub_gave_is_kept_by_its_name(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own loader is stood in for, since it needs the network."""
    given: list[str] = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda path, **more: given.append(more["cache_dir"])
    )
    with surroundings.mirrored(None, tmp_path / "cache"):
        datasets.load_dataset("some/where")
    assert given == [str(tmp_path / "cache/hub-some___where")]
