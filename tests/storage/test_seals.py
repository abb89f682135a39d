"""What is sealed is told from what was changed since, whatever was done to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spice.storage import seals, tensors


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("size", [0, 1, 1000, seals.CHUNK + 7])
def test_a_sealed_file_is_read_as_it_was_written(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    seals.publish_sealed(tmp_path / "file", lambda path: path.write_bytes(content))
    assert seals.is_sealed(tmp_path / "file")
    assert seals.read_sealed(tmp_path / "file") == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_flip_anywhere_in_a_sealed_file_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    for place in range(100 + seals.TRAILER):
        seals.publish_sealed(path, lambda partial: partial.write_bytes(bytes(100)))
        flipped(path, place)
        assert seals.read_sealed(path) is None, place
    assert caplog.records[-1].getMessage().endswith(f"{path} is damaged: made again")


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 1000])
def test_a_file_without_a_seal_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert not seals.is_sealed(tmp_path / "file")
    assert seals.read_sealed(tmp_path / "none") is None


def test_a_change_is_found_though_size_and_time_are_put_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    seals.seal(tmp_path)
    stat = path.stat()
    flipped(path, 3)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert seals.damaged(tmp_path) == ["file"]


def test_a_sealed_folder_names_what_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a", "b", "below/c"):
        (tmp_path / name).write_text(name)
    assert seals.damaged(tmp_path) == [seals.MANIFEST]
    seals.seal(tmp_path)
    assert seals.damaged(tmp_path) == []
    (tmp_path / "a").unlink()
    flipped(tmp_path / "below/c", 0)
    assert seals.damaged(tmp_path) == ["a", "below/c"]
    assert seals.vouched(tmp_path, ["a", "below/c"]) == {"b"}
    assert seals.damaged(tmp_path / "nowhere") == [seals.MANIFEST]


def test_a_file_is_hashed_once_for_as_long_as_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stage.partial").mkdir()
    (tmp_path / "stage.partial/file").write_bytes(bytes(10))
    seals.seal(tmp_path / "stage.partial")
    (tmp_path / "stage.partial").rename(tmp_path / "stage")
    monkeypatch.setattr(seals, "xxh3_128", lambda: 1 / 0)
    assert seals.damaged(tmp_path / "stage") == []


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    kept = {
        "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b": torch.tensor([1.5, -2.0]).bfloat16(),
        "c": torch.tensor(3.0),
    }
    tensors.save_torch(kept, tmp_path / "file")
    assert tensors.is_whole(tmp_path / "file")
    from safetensors.torch import load_file

    assert all(
        torch.equal(kept[name], value) for name, value in load_file(tmp_path / "file").items()
    )


def test_a_flip_anywhere_in_a_file_of_tensors_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors.save({"values": values}, path, "about")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole)
        flipped(path, place)
        found = tensors.read(path)
        if found is not None and found[1] == "about" and "values" in found[0]:
            assert np.array_equal(found[0]["values"], values), place


def test_a_flip_anywhere_in_a_checkpoint_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state = {"weight": torch.arange(50.0), "step": 7}
    torch.save(state, path)
    whole = path.read_bytes()
    assert seals.is_whole_checkpoint(path)
    for place in range(0, len(whole), 3):
        path.write_bytes(whole)
        flipped(path, place)
        if seals.is_whole_checkpoint(path):
            found = torch.load(path, weights_only=True)
            assert found["step"] == 7
            assert torch.equal(found["weight"], state["weight"])
    assert not seals.is_whole_checkpoint(tmp_path / "none")
