"""What a run says about the machine, and what it keeps from saying."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from spice.errors import InputError
from spice.pipeline.machine import Machine

PROGRAM = """
from spice.pipeline.machine import quiet
quiet()
import pytorch_lightning as pl
pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
"""


@pytest.mark.slow
def test_lightning_keeps_its_advice_to_itself() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accelerator": "gpuu"}, "accelerator=gpuu: must be auto, cpu"),
        ({"devices": 0}, "devices=0: must be auto, or a whole number of at least 1"),
        ({"devices": True}, "devices=true"),
        ({"precision": "8"}, "precision=8"),
        ({"strategy": "ddp"}, "strategy=ddp: must be auto or fsdp"),
    ],
)
def test_an_impossible_machine_is_refused(change: dict[str, Any], said: str) -> None:
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "precision": "auto",
                               "strategy": "auto"}  # fmt: skip
    with pytest.raises(InputError, match=said):
        Machine(**options | change, num_nodes=1, progress=False)


def a_machine(accelerator: str = "cpu", devices: Any = "auto", nodes: Any = "auto") -> Machine:
    return Machine(accelerator, devices, nodes, "auto", precision="auto", progress=False)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_is_told_at_the_start(accelerator: str) -> None:
    machine = a_machine(accelerator)
    with pytest.raises(InputError, match=f"trainer.accelerator={accelerator}: torch finds no GPU"):
        machine.check()
    a_machine("auto").check()
