"""What tests ask of helper processes."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch.distributed as dist

from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError


def who(value: Any, here: Any) -> tuple[int, int, Any, Any, list[int]]:
    return team.rank(), team.size(), value, here, team.gather(team.rank() * 10)


def dealt(items: list[int], here: None) -> list[int]:
    return list(team.share(items))


def made(value: PerRank[dict[str, int]], here: None) -> int:
    value()["asked"] = value().get("asked", 0) + 1
    return value()["asked"]


def refused(by: int, waiting: bool, here: None) -> None:
    if team.rank() == by:
        raise InputError("row x: nothing to learn from")
    if waiting:
        dist.barrier()


def broken(here: None) -> None:
    if team.rank():
        raise KeyError("a bug of ours")
    dist.barrier()


def killed(here: None) -> None:
    if team.rank():
        os.kill(os.getpid(), signal.SIGKILL)


class OddError(Exception):
    """One that cannot be sent."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("odd")


def odd(here: None) -> None:
    if team.rank():
        raise OddError(1, 2)
