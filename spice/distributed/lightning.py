"""How Lightning's Trainers see the processes: each has one device, and asks nobody."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from spice.distributed import team


def by_itself(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a Trainer that has one device and asks nobody, with ``options`` of the run's.

    Lightning's own plugin for Slurm would count its tasks for processes of ours, answer its
    signals, and start from any ``hpc_ckpt_*.ckpt`` that it finds.
    """
    kernels: Any = torch.utils.deterministic  # with which torch would also fill fresh memory
    kernels.fill_uninitialized_memory = False
    environment = LightningEnvironment()
    environment.set_global_rank(team.rank())  # on import Lightning takes Slurm's number of a task
    gpus = team.on_gpus() and options.get("accelerator") != "cpu"
    return {
        **options,
        "devices": [team.local_rank()] if gpus else 1,
        "plugins": [environment, *options.get("plugins", [])],
    }
