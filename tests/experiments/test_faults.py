"""The campaign of faults at a small size: what it finds short is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals and processes of Linux")
def test_nothing_falls_short_in_a_small_campaign(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.faults.campaign", "--cases", "6", "--workers",
               "2", "--folder", str(tmp_path)]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1500)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert "0 fell short" in ended.stdout
