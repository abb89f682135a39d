"""What a disk refuses is told from other errors, whichever library met it."""

from __future__ import annotations

import errno
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from spice.errors import InputError
from spice.storage import disk
from spice.storage.files import publish

FULL = Path("/dev/full")  # takes nothing, as a disk that is full


def by_python(path: Path) -> None:
    path.write_bytes(bytes(10**6))


def by_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(10**6))


def by_torch(path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, path)


@pytest.mark.skipif(not FULL.exists(), reason="no such device here")
@pytest.mark.parametrize("write", [by_python, by_numpy, by_torch])
def test_a_full_disk_is_known_from_what_libraries_say(write: Any, tmp_path: Path) -> None:
    with pytest.raises((OSError, RuntimeError)) as caught:
        write(FULL)
    told = disk.refusal(caught.value, tmp_path)
    assert told is not None
    assert "No space left on device" in told
    assert "make room" in told


@pytest.mark.skipif(not FULL.exists(), reason="no such device here")
def test_a_folder_that_cannot_be_copied_is_known(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/file").write_text("x")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/file").symlink_to(FULL)
    with pytest.raises(OSError, match="Errno 28") as caught:
        shutil.copytree(tmp_path / "one", tmp_path / "two", dirs_exist_ok=True)
    assert "No space left on device" in str(disk.refusal(caught.value, tmp_path))


def test_a_file_that_safetensors_cannot_write_is_known(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError) as caught:
        save_file({"a": np.zeros(3)}, tmp_path)  # a folder
    told = disk.refusal(caught.value, tmp_path)
    assert told is not None
    assert "Is a directory" in told


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), ConnectionError("offline"),
     OSError("x"), io.UnsupportedOperation("x"), TimeoutError(errno.ETIMEDOUT, "x")],
)  # fmt: skip
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert disk.refusal(error) is None


def test_a_cause_counts_if_it_is_the_disks_own() -> None:
    for number, known in ((errno.ENOSPC, True), (errno.EIO, True), (errno.EEXIST, False)):
        error = KeyError("x")
        error.__cause__ = OSError(number, "x", "/some/file")
        told = disk.refusal(error)
        assert (told is not None) == known
        assert told is None or told.startswith("/some/file: ")


def test_what_says_enough_is_not_told_in_other_words() -> None:
    error = InputError("x")
    error.__cause__ = OSError(errno.ENOSPC, "x")
    assert disk.refusal(error) is None


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "x")

    with pytest.raises(OSError, match="x") as caught:
        publish(tmp_path / "file", fail)
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (37_000_000, "37.0 MB"),
     (2.5e9, "2.5 GB"), (3e12, "3.0 TB"), (4e15, "4,000.0 TB")],
)  # fmt: skip
def test_sizes_are_in_a_unit_that_says_something(count: float, told: str) -> None:
    assert disk.size(count) == told
