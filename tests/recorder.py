"""A listener for tests of what tells how far it is."""

from __future__ import annotations

from spice.progress import Going


class Recorder:
    """Keeps what has begun, and sees that it ends in its order."""

    def __init__(self) -> None:
        self.all: list[Going] = []
        self.open: list[Going] = []

    def begin(self, going: Going) -> None:
        self.all.append(going)
        self.open.append(going)

    def end(self, going: Going) -> None:
        del self.open[self.open.index(going) :]

    def named(self, name: str) -> list[Going]:
        return [going for going in self.all if going.name == name]
