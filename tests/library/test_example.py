"""What the library's documentation shows gives what it says."""

from __future__ import annotations

import doctest

from spice import library


def test_the_example_runs_as_it_stands() -> None:
    found = doctest.testmod(library, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 10
    assert not found.failed
