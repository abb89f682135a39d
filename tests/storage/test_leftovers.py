"""What a killed writer leaves is cleared away by whoever writes the same again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spice.storage.files import clear_beside, publish, publish_folder, write_json
from spice.storage.seals import publish_sealed, read_sealed
from spice.storage.stages import Stages

KILLED = """
import os, signal, sys
from pathlib import Path
from spice.storage.seals import publish_sealed

def write(partial):
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

publish_sealed(Path(sys.argv[1]), write)
"""


def killed(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL


def test_a_file_that_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    killed(path)
    assert len(list(tmp_path.glob("kept.json.partial-*"))) == 1
    publish_sealed(path, lambda partial: partial.write_text("whole"))
    assert read_sealed(path) == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_living_writer_is_writing_stays(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"

    def other_writers_turn(partial: Path) -> None:
        partial.write_text("mine")
        clear_beside(path)
        assert partial.read_text() == "mine"

    publish(path, other_writers_turn)
    assert path.read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space") as told:
        publish(tmp_path / "file", fails)
    assert told.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_stage_that_is_gone_on_from(tmp_path: Path) -> None:
    stages = Stages(tmp_path, lambda stage, message: None)

    def half(partial: Path) -> None:
        write_json(partial / "done.json", 1)
        killed(partial / "report.json")
        (partial / "adapter.partial").mkdir()
        (partial / "adapter.partial/weights").write_text("half")
        raise KeyboardInterrupt

    def rest(partial: Path) -> None:
        assert [path.name for path in partial.iterdir()] == ["done.json"]
        publish_folder(partial / "adapter", lambda folder: folder.mkdir())

    inputs: dict[str, Any] = {"a": 1}
    with pytest.raises(KeyboardInterrupt):
        stages.run("tune", inputs, half)
    done = stages.run("tune", inputs, rest)
    assert not list(done.folder.rglob("*.partial*"))
