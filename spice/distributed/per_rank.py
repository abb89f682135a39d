"""What is too large to be sent, and is made again instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerRank(Generic[T]):
    """A value that every process makes for itself, when it first asks; only ``make`` is sent.

    >>> import pickle
    >>> models = PerRank(dict)
    >>> models() is models()
    True
    >>> pickle.loads(pickle.dumps(models))() is models()
    False
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self) -> T:
        """The value, made now if it was not before."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __getstate__(self) -> dict[str, Any]:
        """How it is made."""
        return {"_make": self._make, "_made": []}
