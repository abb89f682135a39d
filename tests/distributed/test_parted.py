"""Tensors that two processes divide, each in need of others at another time."""

from __future__ import annotations

from collections.abc import Iterator

import orders
import pytest

from spice.distributed import team


@pytest.fixture(scope="module")
def divided() -> Iterator[None]:
    team.ask_for(2, False, divided=True)
    yield
    team.ask_for(1, False)
    team.disband()


@pytest.mark.parametrize(
    "plan",
    [
        [[0, 1, 2], [0, 1, 2]],
        [[0, 1, 2, 1, 0], [2]],
        [[], [1, 1, 0]],
        [[2, 0], []],
        [[0, 1] * 5, [1, 0, 2] * 7],
    ],
)
def test_each_has_whole_what_it_asks_for(divided: None, plan: list[list[int]]) -> None:
    sums = [[21.0 * scale, 15.0 * scale] for scale in (1, 10, 100)]
    found = team.everywhere(orders.asked, plan)
    assert found == [[sums[number] for number in mine] for mine in plan]
