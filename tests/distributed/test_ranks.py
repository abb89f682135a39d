"""Who a process is, by the variables that its starter sets."""

from __future__ import annotations

import pytest

from spice.distributed.ranks import Rank, alone, given
from spice.errors import InputError

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3",
    "MASTER_ADDR": "node0", "MASTER_PORT": "1234",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "12345678", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip


def test_what_torchrun_tells() -> None:
    rank = given(TORCHRUN)
    assert rank == Rank(5, 6, local=2, nodes=2, address="node0", port=1234)
    assert rank.per_node == 3
    assert given(rank.variables()) == rank


def test_what_srun_tells() -> None:
    rank = given(SRUN)
    assert rank == Rank(3, 4, local=1, nodes=2, address="10.0.0.1", port=29_500 + 5678)
    assert given({**SRUN, "MASTER_ADDR": "node7", "MASTER_PORT": "99"}) == Rank(
        3, 4, 1, 2, "node7", 99
    )


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_ID": "7"},  # a batch script's
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
        {**TORCHRUN, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0"},
        {"RANK": "1"},
    ],
)
def test_alone(told: dict[str, str]) -> None:
    assert given(told) is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({**TORCHRUN, "WORLD_SIZE": "five"}, "WORLD_SIZE=five: must be a number"),
        ({**TORCHRUN, "WORLD_SIZE": "7"}, "every machine must have as many"),
        ({k: v for k, v in TORCHRUN.items() if k != "MASTER_ADDR"}, "MASTER_ADDR is not set"),
        ({**SRUN, "SLURM_STEP_NUM_NODES": "3"}, "--ntasks-per-node"),
    ],
)
def test_half_a_story_is_refused(told: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        given(told)


def test_processes_of_this_machine() -> None:
    first = alone(3)
    others = [first, *(first.next(by) for by in (1, 2))]
    assert [given(rank.variables()) for rank in others] == others
    assert [rank.number for rank in others] == [rank.local for rank in others] == [0, 1, 2]
