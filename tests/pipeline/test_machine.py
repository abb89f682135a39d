"""What a run says about the machine, and what it keeps from saying."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from spice.pipeline.machine import quiet
quiet()
import pytorch_lightning as pl
pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
"""


def test_lightning_keeps_its_advice_to_itself() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
