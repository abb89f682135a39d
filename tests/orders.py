"""What tests ask of helper processes."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
import torch.distributed as dist

from spice.distributed import per_rank, team
from spice.distributed.parted import Parted
from spice.distributed.per_rank import PerRank
from spice.errors import InputError


def who(value: Any, here: Any) -> tuple[int, int, Any, Any, list[int]]:
    return team.rank(), team.size(), value, here, team.gather(team.rank() * 10)


def dealt(items: list[int], here: None) -> list[int]:
    return list(team.share(items))


def made(value: PerRank[dict[str, int]], here: None) -> int:
    value()["asked"] = value().get("asked", 0) + 1
    return value()["asked"]


def kept(value: PerRank[Any], here: None) -> int:
    """How many values this process keeps for the run."""
    return len(per_rank._kept)


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


def asked(plan: list[list[int]], here: None) -> list[list[float]]:
    """Open groups of tensors, each process others and as many as its plan says; their sums."""
    groups = []
    for scale in (1, 10, 100):
        whole = [scale * torch.arange(7.0), torch.full((3, 5), scale, dtype=torch.bfloat16)]
        mine = whole if team.is_first() else [each.to("meta") for each in whole]
        groups.append(Parted(mine, "cpu"))
    assert all(group._flat.untyped_storage().nbytes() == 0 for group in groups)
    found = []
    for number in plan[team.rank()]:
        groups[number].open()
        found.append([float(tensor.float().sum()) for tensor in groups[number].tensors])
        held = [group for group in groups if group._flat.untyped_storage().nbytes()]
        assert held == [groups[number]]
    team.add_up([torch.ones(1)])  # where all have to be
    for number in reversed(plan[team.rank()]):
        groups[number].open()
    return found


def heard(here: None) -> bool:
    from spice import progress

    with progress.progress("gradients", 1, "rows") as tell:
        tell()
        return progress._Ears.listener is not None
