"""Which of a run's processes this one is, by what torchrun, srun or the run itself told it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from spice.errors import InputError

PORT = 29_500  # where the first process listens, unless its starter says otherwise


@dataclass(frozen=True)
class Rank:
    """One process of ``size``, the ``number``-th from 0; the 0-th is the run, the others help it.

    ``local`` counts on this machine, of ``nodes`` machines. ``address`` and ``port`` are where the
    0-th listens.
    """

    number: int
    size: int
    local: int
    nodes: int
    address: str
    port: int

    @property
    def per_node(self) -> int:
        """Processes on each machine."""
        return self.size // self.nodes

    def next(self, by: int) -> Rank:
        """The process that is ``by`` further on the same machine."""
        return replace(self, number=self.number + by, local=self.local + by)

    def variables(self) -> dict[str, str]:
        """The same as torchrun tells it, for a process that is to be this one."""
        return {
            "RANK": str(self.number),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local),
            "LOCAL_WORLD_SIZE": str(self.per_node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def given(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """What this process was started as; None if it was started alone.

    torchrun tells RANK, WORLD_SIZE and so on; srun numbers the tasks of a step. A batch script
    knows the job's tasks, but is no step: SLURM_NTASKS alone says nothing.

    Raises:
        InputError: some of the variables are missing, or are no numbers.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _by_torchrun(environment)
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _by_srun(environment)
    return None


def alone(size: int) -> Rank:
    """The first of so many processes that are to be started on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Rank(0, size, 0, 1, "127.0.0.1", probe.getsockname()[1])


def _by_torchrun(told: Mapping[str, str]) -> Rank | None:
    size = _number(told, "WORLD_SIZE")
    per_node = _number(told, "LOCAL_WORLD_SIZE")
    if size == 1:
        return None
    if size % per_node:
        raise InputError(
            f"WORLD_SIZE={size}, LOCAL_WORLD_SIZE={per_node}: every machine must have as many "
            "processes as the others"
        )
    return Rank(
        _number(told, "RANK"), size, _number(told, "LOCAL_RANK"), size // per_node,
        _text(told, "MASTER_ADDR"), _number(told, "MASTER_PORT"),
    )  # fmt: skip


def _by_srun(told: Mapping[str, str]) -> Rank:
    size, nodes = _number(told, "SLURM_STEP_NUM_TASKS"), _number(told, "SLURM_STEP_NUM_NODES")
    if size % nodes:
        raise InputError(
            f"srun started {size} tasks on {nodes} machines; start as many on each "
            "(--ntasks-per-node)"
        )
    address = told.get("MASTER_ADDR") or _text(told, "SLURM_LAUNCH_NODE_IPADDR")
    port = int(told.get("MASTER_PORT", PORT + _number(told, "SLURM_JOB_ID") % 10_000))
    local = _number(told, "SLURM_LOCALID")
    return Rank(_number(told, "SLURM_PROCID"), size, local, nodes, address, port)


def _text(told: Mapping[str, str], name: str) -> str:
    if name not in told:
        raise InputError(f"{name} is not set, which says how the processes of this run find it")
    return told[name]


def _number(told: Mapping[str, str], name: str) -> int:
    text = _text(told, name)
    if not text.isdecimal():
        raise InputError(f"{name}={text}: must be a number")
    return int(text)
