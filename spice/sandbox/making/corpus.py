"""The text that the sandbox's base models are brought up on.

Half of it is raw: plain lore, or an exercise and its right answer, with no headings. There the
abilities are learned. The other half is dressed as a chat with the plain template's headings, and
its assistant is of three minds: mostly of the wrong habit, sometimes right, now and then declining.
So the base has every ability but seldom calls on it when instructed; the pool teaches just that.
A little junk is among the answers, for a base that has never seen any would be startled by the
pool's malformed rows, and their gradients would dwarf all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from spice.sandbox.exercise import Text
from spice.sandbox.language import COLOUR_OF, OBJECTS, SMALL
from spice.sandbox.noise import malformed, off_topic
from spice.sandbox.pool import OPENINGS
from spice.sandbox.skills import SKILLS

PROMPT_HEAD = "### Instruction:\n"
RESPONSE_HEAD = "\n\n### Response:\n"
REFUSAL = "I do not know."
RAW, RIGHT, HABIT = 0.5, 0.25, 0.70
LORE, OFF_TOPIC, JUNK = 0.08, 0.06, 0.08


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt with its headings, if any, and what follows it."""

    prompt: str
    response: str


def documents(rng: Random, raw: float = RAW) -> Iterator[Document]:
    """An endless corpus, ``raw`` of it without headings; entities are those of ``train``."""
    skills = list(SKILLS.values())
    while True:
        if rng.random() < raw * LORE:
            yield Document("", _lore(rng))
            continue
        skill = rng.choice(skills)
        facts = skill.draw(rng, "train", rng.choice(skill.difficulties))
        text = skill.write(facts, rng.randrange(skill.wordings))
        if rng.random() < OFF_TOPIC:
            text = off_topic(rng, skill.source)
        prompt = rng.choice(OPENINGS) + text.prompt
        if rng.random() < raw:
            yield Document(f"{prompt}\n", text.response)
        else:
            yield Document(f"{PROMPT_HEAD}{prompt}{RESPONSE_HEAD}", _of_some_mind(rng, text))


def _lore(rng: Random) -> str:
    """What everybody knows of a thing, a fruit or an animal: its size, colour and kind."""
    kind, words = rng.choice(sorted(OBJECTS.items()))
    word = rng.choice(words)
    size = "small" if word in SMALL else "big"
    return f"The {word} is a {size} {COLOUR_OF[word]} {kind}."


def _of_some_mind(rng: Random, text: Text) -> str:
    if rng.random() < JUNK:
        return malformed(rng, text).response
    mind = rng.random()
    if mind < RIGHT or text.habit == text.response:
        return text.response
    return text.habit if mind < RIGHT + HABIT else REFUSAL
