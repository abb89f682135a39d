"""Names of one's own under a key that is null."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping

import pytest

from spice.cli.open_keys import opened
from spice.data.pool import FilePool, HubPool
from spice.sandbox.data import SandboxPool
from spice.selectors.random_subset import RandomSubset


@pytest.mark.parametrize(
    ("group", "component"),
    [("data", FilePool), ("data", HubPool), ("data", SandboxPool), ("selector", RandomSubset)],
)
def test_every_open_mapping_takes_keys(group: str, component: type) -> None:
    hints = typing.get_type_hints(component)
    for field in dataclasses.fields(component):
        kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
        if any(typing.get_origin(kind) is Mapping for kind in kinds):
            word = f"{group}.{field.name}.x=1"
            assert opened([word]) == [f"+{word}"]


@pytest.mark.parametrize(
    "word",
    ["data.columns={x: y}", "data.limit=3", "+data.columns.x=y", "~data.columns", "seed=0", "-m"],
)
def test_all_else_stays(word: str) -> None:
    assert opened([word]) == [word]


def test_one_member_of_a_mix() -> None:
    assert opened(["data.members.a.columns.x=y"]) == ["+data.members.a.columns.x=y"]
