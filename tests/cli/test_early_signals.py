"""Signals while the program is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from spice.stopping import CODES, LINES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("after", [0.2, 0.5])
def test_they_are_obeyed_without_a_traceback(number: signal.Signals, after: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "spice", "check"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(after)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == CODES[number]
    assert told == f"spice: {LINES[CODES[number]]}\n"
