"""How Lightning is to use the machine."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

from spice.distributed import team
from spice.distributed.ranks import given
from spice.errors import InputError
from spice.models.quantization import silence
from spice.values import AutoCount, component


@component
class Machine:
    """What stands behind ``trainer=``: Lightning's accelerator, devices and precision.

    ``devices`` processes on each of ``num_nodes`` machines work on the run, each with a GPU or a
    share of the cores; auto are those that torchrun or srun started, else one. With ``strategy``
    auto each holds a whole model, with fsdp a part of each of its layers
    (:mod:`spice.models.dividing`). ``precision`` auto
    is bf16-mixed where a GPU has it, else 32-true; it is fine-tuning's alone, gradients are always
    accumulated in float32. ``progress`` shows a run's steps on a terminal while it goes on.

    Raises:
        InputError: an option outside its range.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda"]
    devices: AutoCount
    num_nodes: AutoCount
    strategy: Literal["auto", "fsdp"]
    precision: Literal["auto", "32-true", "bf16-mixed"]
    progress: bool

    def check(self) -> None:
        """Refuse what this machine has not.

        Raises:
            InputError: a GPU is asked for where there is none, or more than there are; or other
                processes than were started.
        """
        self._check_started()
        if self.accelerator not in ("gpu", "cuda"):
            return
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not found:
            raise InputError(
                f"trainer.accelerator={self.accelerator}: torch finds no GPU here; "
                "trainer.accelerator=auto takes one where there is one"
            )
        devices, _ = self._asked()
        if devices > found:
            raise InputError(f"trainer.devices={devices}: this machine has {found} GPUs")

    def _check_started(self) -> None:
        started, (devices, nodes) = given(), self._asked()
        if started is None and nodes > 1:
            raise InputError(
                f"trainer.num_nodes={nodes}: one machine starts no processes on others; start this "
                "command by torchrun or srun on each"
            )
        if started and (devices, nodes) != (started.per_node, started.nodes):
            raise InputError(
                f"trainer.devices={devices} trainer.num_nodes={nodes}: {started.per_node} "
                f"processes were started on each of {started.nodes} machines; leave both at auto"
            )

    def _asked(self) -> tuple[int, int]:
        """Processes on each machine, and machines."""
        started = given()
        devices = (started.per_node if started else 1) if self.devices == "auto" else self.devices
        nodes = (started.nodes if started else 1) if self.num_nodes == "auto" else self.num_nodes
        return devices, nodes

    @property
    def processes(self) -> int:
        """How many work on a run."""
        devices, nodes = self._asked()
        return devices * nodes

    @property
    def parts(self) -> int:
        """How many processes divide a frozen model's layers; 1 where each holds them all."""
        return self.processes if self.strategy == "fsdp" else 1

    def gather(self) -> None:
        """Let what comes be done by as many processes as are asked for."""
        import torch

        gpus = self.accelerator != "cpu" and torch.cuda.is_available()
        team.ask_for(self.processes, gpus, self.parts > 1)

    def resolved_precision(self) -> str:
        """The precision that fine-tuning runs in here."""
        if self.precision != "auto":
            return self.precision
        import torch

        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if has_bf16 and self.accelerator != "cpu" else "32-true"

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments that every Trainer of a run shares; :mod:`spice.distributed.lightning` adds to.

        They can be sent to other processes.
        """
        return {
            "accelerator": self.accelerator,
            "deterministic": "warn",
            "enable_progress_bar": False,  # spice.progress tells how far it is
        }


def quiet() -> None:
    """Keep banners, advice and other libraries' bars out of a run's log; their errors stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    silence()  # peft takes bitsandbytes wherever it is installed
    # Lightning sets its own logger's level when it is imported, but not that of its children.
    told = ("utilities.rank_zero", "callbacks.model_summary", "trainer.connectors.signal_connector")
    for name in told:
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", module="peft")  # of tied weights: spice/models/merging.py
