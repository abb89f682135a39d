"""How far a long loop has come, as the loop says it, for whoever listens.

Whatever computes imports this file, so that it counts in every stage's key: it holds numbers, and
no word that anybody reads. What is made of the numbers, and when, is in
:mod:`spice.reporting.telling`, which nothing that computes imports; a change there makes nothing
anew. Without a listener, as in a run's helpers and in other people's programs, a loop tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Going:
    """Something that takes a while: ``name``, and where it can be counted ``total`` of a ``unit``.

    Without a name it goes by that of what it is within.
    ``work`` is what the whole of it costs, in any unit: a row of thousand tokens takes longer than
    one of ten. Without it all units cost the same; with 0 nobody knows. Other threads may look at
    any time, so what is done and its cost change together: ``at`` since it began, ``before`` by an
    earlier run.
    """

    __slots__ = ("at", "before", "name", "total", "unit", "work")

    def __init__(self, name: str, total: int | None, unit: str, work: float | None) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.work = total if work is None else work
        self.at: tuple[int, float] = (0, 0.0)
        self.before: tuple[int, float] = (0, 0.0)

    def __call__(self, count: int = 1, work: float | None = None) -> None:
        """So many more units are done, at that cost."""
        done, spent = self.at
        self.at = done + count, spent + (count if work is None else work)

    def skip(self, count: int, work: float | None = None) -> None:
        """So many were done before this one began, which says nothing of its rate."""
        self.before = count, count if work is None else work


class Listener(Protocol):
    """Hears of all that begins and ends, inner things within outer ones."""

    def begin(self, going: Going) -> None:
        """It starts now."""

    def end(self, going: Going) -> None:
        """It is over, and so is whatever has begun within it."""


class _Ears:
    """Of this process."""

    listener: Listener | None = None


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Let somebody, or nobody, hear of what goes on within, in place of whoever did before."""
    before, _Ears.listener = _Ears.listener, listener
    try:
        yield
    finally:
        _Ears.listener = before


@contextmanager
def progress(
    name: str = "", total: int | None = None, unit: str = "", work: float | None = None
) -> Iterator[Going]:
    """Have it known how far the block is, which calls what it is given for all that it has done.

    Without a ``unit`` nothing is counted, and it is only known that it goes on.

    >>> with progress("gradients", 3, "rows", work=60.0) as tell:
    ...     for tokens in (30, 20, 10):
    ...         tell(1, tokens)
    >>> tell.at
    (3, 60.0)
    """
    going, listener = Going(name, total, unit, work), _Ears.listener
    if listener is None:
        yield going
        return
    listener.begin(going)
    try:
        yield going
    finally:
        listener.end(going)


def counted(
    items: Sequence[T], name: str, unit: str, work: Callable[[T], float] | None = None
) -> Iterator[T]:
    """The items one by one, each done when the next is asked for; ``work`` is what one costs.

    >>> list(counted([1, 2], "products", "blocks"))
    [1, 2]
    """
    if _Ears.listener is None:
        yield from items
        return
    costs = None if work is None else sum(map(work, items))
    with progress(name, len(items), unit, costs) as tell:
        for item in items:
            yield item
            tell(1, None if work is None else work(item))
