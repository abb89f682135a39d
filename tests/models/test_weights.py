"""How far the reading of a model's files is, told by their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from recorder import Recorder

from spice.models import weights
from spice.progress import heard_by


def test_bytes_are_counted_and_the_hash_is_that_of_the_files(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MB", 1000)
    monkeypatch.setattr(weights, "CHUNK", 777)
    folder, ear = make_checkpoint("llama"), Recorder()
    with heard_by(ear):
        found = weights.digest_of(folder, tmp_path / "memo")
    checked, hashed = ear.all
    files = sorted(path for pattern in weights.FILES for path in folder.glob(pattern))
    tensors, every = (sum(path.stat().st_size for path in of) for of in (
        folder.glob("*.safetensors"), files))  # fmt: skip
    assert (checked.name, checked.unit, checked.total) == ("weights", "MB", tensors // 1000)
    assert 0.9 * checked.total <= checked.at[0] <= checked.total  # a header is no weight
    assert hashed.at[0] == hashed.total == every // 1000
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    assert found == total.hexdigest()[:16]
