"""What is too large to be sent, and is made again instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4
from weakref import WeakSet

from spice.distributed import team

T = TypeVar("T")
_kept: dict[str, list[Any]] = {}  # by a value's name, in a process to which it was sent


class PerRank(Generic[T]):
    """A value that every process makes for itself, when it first asks; only ``make`` is sent.

    The others keep theirs for as long as the run keeps its own, or until :func:`release`.

    >>> import pickle
    >>> models = PerRank(dict)
    >>> models() is models()
    True
    >>> pickle.loads(pickle.dumps(models))() is models()
    False
    """

    _alive: ClassVar[WeakSet[PerRank[Any]]] = WeakSet()

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._name = uuid4().hex
        self._made: list[T] = []
        PerRank._alive.add(self)

    def __call__(self) -> T:
        """The value, made now if it was not before."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __getstate__(self) -> dict[str, Any]:
        """How it is made, and what else the run still has."""
        alive = [value._name for value in PerRank._alive]
        return {"_make": self._make, "_name": self._name, "alive": alive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same, with what was kept under its name; what the run has let go of is dropped."""
        for name in _kept.keys() - set(state.pop("alive")):
            del _kept[name]
        self.__dict__.update(state)
        self._made = _kept.setdefault(self._name, [])


def release() -> None:
    """Let other processes forget what they kept, if there are any."""
    if team.at_hand():
        team.everywhere(_forget)


def _forget(here: None) -> None:
    _kept.clear()
