"""What a skill is made of: drawn facts, several wordings, a right answer and a tempting habit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from spice.sandbox.language import Split

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """An instruction (with an optional input below it), its right answer and the wrong habit."""

    instruction: str
    response: str
    habit: str
    input: str = ""

    @property
    def prompt(self) -> str:
        """The user's turn, as :attr:`spice.records.Row.prompt` joins it."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True)
class Skill:
    """One teachable thing.

    ``draw(rng, split, difficulty)`` gives the facts of a new exercise, with all entities out of
    the split; ``write(facts, wording)`` puts them into words. The wordings of the same facts have
    the same answer: they are paraphrases, hence near duplicates.
    """

    name: str
    source: str
    difficulties: tuple[int, ...]
    wordings: int
    draw: Callable[[Random, Split, int], Facts]
    write: Callable[[Facts, int], Text]
