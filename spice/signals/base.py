"""What a signal is: something read off a model over a pool, kept under a key of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.signals.source import Source


class Signal(ABC):
    """A stage that gives selectors an array.

    ``aims`` says that it reads the validation examples, ``of_gradients`` that it is made of the
    pool's gradients; both then are part of its key.
    """

    aims: ClassVar[bool] = False
    of_gradients: ClassVar[bool] = False

    @abstractmethod
    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """What decides the values, besides the pool, the model and the code."""

    def readers(self) -> Sequence[Checkpoint]:
        """The models that read the pool beside the proxy."""
        return ()

    @abstractmethod
    def build(self, folder: Path, source: Source) -> None:
        """Read it and keep it in ``folder``; what an interrupted run left there is gone on from."""

    @abstractmethod
    def load(self, folder: Path, source: Source) -> Any:
        """What selectors see of a finished folder: an array, as its class says."""

    @abstractmethod
    def work(self, source: Source) -> list[Work]:
        """What building it makes models go over."""

    def size(self, source: Source, coordinates: int) -> int:
        """Bytes that are kept of each text of its first work; ``coordinates`` are a gradient's.

        What is made of several passes is small, and not counted.
        """
        return 0

    def pairs(self, source: Source) -> tuple[int, int]:
        """How many cosines of gradients it takes, and how many of them are held at a time."""
        return 0, 0
