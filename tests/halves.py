"""Which cases of a test run in the fast half: some stand for all, the others are slow."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """The ``cases`` of one parameter, or tuples of several, as ``quick`` ones and slow ones."""
    return [
        case
        if case in quick
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
