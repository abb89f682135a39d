"""How a Trainer of Lightning's sees the processes: each for itself, or all in step."""

from __future__ import annotations

import os
from typing import Any

from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment

from spice.distributed import team


class TeamEnvironment(ClusterEnvironment):
    """The team as Lightning asks for it; nothing is started by Lightning."""

    @property
    def creates_processes_externally(self) -> bool:
        """They are there already."""
        return True

    @property
    def main_address(self) -> str:
        """Not used: the group is there already."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """As :attr:`main_address`."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """It is always named."""
        return False

    def world_size(self) -> int:
        """How many processes."""
        return team.size()

    def set_world_size(self, size: int) -> None:
        """Settled by the team."""

    def global_rank(self) -> int:
        """Which of all processes this is."""
        return team.rank()

    def set_global_rank(self, rank: int) -> None:
        """Settled by the team."""

    def local_rank(self) -> int:
        """Which of its machine's processes this is."""
        return team.local_rank()

    def node_rank(self) -> int:
        """Which machine it is on."""
        return team.rank() // (team.size() // team.nodes())


def by_itself(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a Trainer that has one device and asks nobody, with ``options`` of the run's.

    Lightning's own plugin for Slurm would count its tasks for processes of ours, answer its
    signals, and start from any ``hpc_ckpt_*.ckpt`` that it finds.
    """
    environment = LightningEnvironment()
    environment.set_global_rank(team.rank())  # on import Lightning takes Slurm's number of a task
    gpus = team.on_gpus()
    return {
        **_talking(options),
        "devices": [team.local_rank()] if gpus else 1,
        "plugins": [environment, *options.get("plugins", [])],
    }


def in_step(options: dict[str, Any]) -> dict[str, Any]:
    """The same of a Trainer whose gradients are averaged over all processes."""
    if team.size() == 1:
        return by_itself(options)
    return {
        **_talking(options),
        "devices": team.size() // team.nodes(),
        "num_nodes": team.nodes(),
        "strategy": "ddp",
        "use_distributed_sampler": False,  # what each has is settled by the plan
        "plugins": [TeamEnvironment(), *options.get("plugins", [])],
    }


def _talking(options: dict[str, Any]) -> dict[str, Any]:
    """Bars are the run's alone."""
    if team.is_first():
        return options
    callbacks = [c for c in options.get("callbacks", []) if not isinstance(c, ProgressBar)]
    return {**options, "callbacks": callbacks, "enable_progress_bar": False}
