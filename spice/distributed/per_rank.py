"""What is too large to be sent, and is made again instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import uuid4

from spice.distributed import team

T = TypeVar("T")
_kept: dict[str, list[Any]] = {}  # by a value's name, in a process to which it was sent


class PerRank(Generic[T]):
    """A value that every process makes for itself, when it first asks; only ``make`` is sent.

    Others make it anew for each order, unless it is ``kept`` until another one is, or
    :func:`release`.

    >>> import pickle
    >>> models = PerRank(dict)
    >>> models() is models()
    True
    >>> pickle.loads(pickle.dumps(models))() is models()
    False
    """

    def __init__(self, make: Callable[[], T], kept: bool = False) -> None:
        self._make = make
        self._name = uuid4().hex if kept else None
        self._made: list[T] = []

    def __call__(self) -> T:
        """The value, made now if it was not before."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __getstate__(self) -> dict[str, Any]:
        """How it is made."""
        return {"_make": self._make, "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same, with what was kept under its name."""
        self.__dict__.update(state)
        self._made = []
        if self._name is not None:
            if self._name not in _kept:
                _kept.clear()  # two models may have no room beside each other
            self._made = _kept.setdefault(self._name, self._made)


def release() -> None:
    """Let other processes forget what they kept, if there are any."""
    if team.at_hand():
        team.everywhere(_forget)


def _forget(here: None) -> None:
    _kept.clear()
