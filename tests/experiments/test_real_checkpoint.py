"""The real checkpoint's builder: what it is built from, and what it says where that is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.real import checkpoint
from spice.errors import InputError

PACKAGE = "a_package_with_weights"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the place of the real one, without weights."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('is not to be run')", encoding="utf-8")
    monkeypatch.setattr(checkpoint, "PACKAGE", PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="no_such_package is not installed; `make real-checkpoint"):
        checkpoint.carried()


def test_the_one_file_of_weights_is_found_and_no_code_is_run(package: Path) -> None:
    with pytest.raises(InputError, match="holds 0 GGUF files, not one"):
        checkpoint.carried()
    (package / "model.gguf").touch()
    assert checkpoint.carried() == package / "model.gguf"
    (package / "other.gguf").touch()
    with pytest.raises(InputError, match="holds 2 GGUF files, not one"):
        checkpoint.carried()


def test_what_is_there_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "PACKAGE", "no_such_package")
    monkeypatch.setattr(sys, "argv", ["checkpoint", str(tmp_path)])
    with pytest.raises(InputError, match="is not installed"):
        checkpoint.main()
    (tmp_path / "origin.json").write_text("{}", encoding="utf-8")
    checkpoint.main()
    assert capsys.readouterr().out == f"{tmp_path} is there already\n"


def test_make_help_lists_it() -> None:
    root = Path(__file__).parents[2]
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "  make real-checkpoint  build SmolLM2-135M-Instruct" in shown
