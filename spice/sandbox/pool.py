"""The sandbox's pool of instruction rows, and the truth about each row that no selector sees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from spice.errors import InputError
from spice.records import Row, row_id
from spice.sandbox.exercise import Facts, Skill
from spice.sandbox.noise import malformed, off_topic
from spice.sandbox.skills import SKILLS

Kind = Literal["clean", "redundant", "contradicting", "off_topic", "malformed"]

SOURCES: Mapping[str, float] = {"math": 0.25, "code": 0.25, "chat": 0.25, "general": 0.25}
KINDS: Mapping[str, float] = {
    "clean": 0.45,
    "redundant": 0.13,
    "contradicting": 0.29,
    "off_topic": 0.08,
    "malformed": 0.05,
}
OPENINGS = ("", "Please help. ", "Now do this. ", "One more. ")


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a row: ``group`` numbers near duplicates, ``skill`` is "" off topic."""

    skill: str
    difficulty: int
    group: int
    kind: str


def apportion(size: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that add up to ``size``, by largest remainder (ties to the earlier name)."""
    total = sum(shares.values())
    exact = {label: size * share / total for label, share in shares.items()}
    counts = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: counts[label] - exact[label])
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    return counts


def pool(size: int = 1200, seed: int = 0, kinds: Mapping[str, float] | None = None) -> list[Row]:
    """``size`` rows of the sandbox, the same for the same size, seed and shares of kinds."""
    return [row for row, _ in generate(size, seed, kinds)]


def truth(
    size: int = 1200, seed: int = 0, kinds: Mapping[str, float] | None = None
) -> dict[str, Truth]:
    """The truth about each row of :func:`pool` with the same arguments, by row id."""
    return {row.id: known for row, known in generate(size, seed, kinds)}


def checked(kinds: Mapping[str, float]) -> Mapping[str, float]:
    """Shares of kinds that rows can be made of: known names, none negative, not all zero.

    Raises:
        InputError: shares of which that is not true.
    """
    known = ", ".join(KINDS)
    if not isinstance(kinds, Mapping) or not kinds:
        raise InputError(f"data.kinds={kinds}: give shares of {known}")
    for kind, share in kinds.items():
        if kind not in KINDS:
            raise InputError(f"data.kinds: no kind {kind!r}; known are {known}")
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not math.isfinite(share) or share < 0:
            raise InputError(f"data.kinds.{kind}={share}: must be a number of at least 0")
    if not sum(kinds.values()):
        raise InputError(f"data.kinds={dict(kinds)}: at least one share must be above 0")
    return kinds


def generate(
    size: int, seed: int = 0, kinds: Mapping[str, float] | None = None
) -> list[tuple[Row, Truth]]:
    """Rows with the truth about them, in a random order, each one a text of its own.

    Raises:
        InputError: redundant rows without clean ones, or shares that :func:`checked` refuses.
    """
    counts = apportion(size, KINDS if kinds is None else checked(kinds))
    if counts.get("redundant") and not counts.get("clean"):
        raise InputError("data.kinds: redundant rows paraphrase clean ones, so give these a share")
    rng = Random(seed)
    writer = _Writer(rng)
    rows = [entry for kind in KINDS for entry in writer.rows(kind, counts.get(kind, 0))]
    rng.shuffle(rows)
    return rows


@dataclass(frozen=True, slots=True)
class _Exercise:
    """The facts behind a clean row, kept so that redundant rows can paraphrase them."""

    skill: Skill
    facts: Facts
    truth: Truth


class _Writer:
    """Writes rows of one kind after another and remembers what has been said."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.said: set[str] = set()
        self.clean: list[_Exercise] = []
        self.groups = 0

    def rows(self, kind: str, count: int) -> Iterator[tuple[Row, Truth]]:
        """``count`` rows of one kind, spread evenly over sources, their skills and levels."""
        if kind == "redundant":
            yield from self._paraphrases(count)
            return
        for source, part in apportion(count, SOURCES).items():
            skills = [skill for skill in SKILLS.values() if skill.source == source]
            for turn in range(part):
                skill = skills[turn % len(skills)]
                yield self._row(kind, skill, turn // len(skills))

    def _row(self, kind: str, skill: Skill, turn: int) -> tuple[Row, Truth]:
        difficulty = skill.difficulties[turn % len(skill.difficulties)]
        topic = "" if kind == "off_topic" else skill.name
        truth = Truth(topic, 0 if kind == "off_topic" else difficulty, self._new_group(), kind)
        while True:
            facts = skill.draw(self.rng, "train", difficulty)
            if row := self._say(kind, skill, facts):
                if kind == "clean":
                    self.clean.append(_Exercise(skill, facts, truth))
                return row, truth

    def _paraphrases(self, count: int) -> Iterator[tuple[Row, Truth]]:
        """Copies of clean rows in other words; half as many originals as copies."""
        originals = self.rng.sample(self.clean, min(len(self.clean), (count + 1) // 2))
        for _ in range(count):
            row = None
            while row is None:
                original = self.rng.choice(originals)
                row = self._say("redundant", original.skill, original.facts)
            yield row, replace(original.truth, kind="redundant")

    def _new_group(self) -> int:
        self.groups += 1
        return self.groups - 1

    def _say(self, kind: str, skill: Skill, facts: Facts) -> Row | None:
        """Put the facts into words drawn at random; None if just this was said before."""
        text = skill.write(facts, self.rng.randrange(skill.wordings))
        if kind == "off_topic":
            text = off_topic(self.rng, skill.source)
        elif kind == "malformed":
            text = malformed(self.rng, text)
        instruction = self.rng.choice(OPENINGS) + text.instruction
        response = text.habit if kind == "contradicting" else text.response
        prompt = f"{instruction}\n{text.input}"
        if prompt in self.said:
            return None
        self.said.add(prompt)
        return _as_row(skill.source, instruction, text.input, response)


def _as_row(source: str, instruction: str, given: str, response: str) -> Row:
    identity = row_id("", (), instruction, given, response)
    return Row(identity, instruction, given, response, source)
