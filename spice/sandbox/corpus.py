"""The text that the sandbox's base models are brought up on.

Half of it is raw: an exercise and its right answer, with no headings. There the abilities are
learned. The other half is dressed as a chat with the plain template's headings, and its
assistant is of three minds: right, of the wrong habit, or declining. So the base has every
ability but does not reliably call on it when instructed; that is what the pool teaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from spice.sandbox.noise import off_topic
from spice.sandbox.pool import OPENINGS
from spice.sandbox.skills import SKILLS

PROMPT_HEAD = "### Instruction:\n"
RESPONSE_HEAD = "\n\n### Response:\n"
REFUSAL = "I do not know."
RAW, RIGHT, HABIT = 0.6, 0.30, 0.45
OFF_TOPIC = 0.06
PRACTICE = {"choose_word": 4, "choose_number": 4, "order": 4, "truth": 4, "swap": 2, "gain": 2}


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt with its headings, if any, and what follows it."""

    prompt: str
    response: str


def documents(rng: Random) -> Iterator[Document]:
    """An endless corpus; entities are those of the ``train`` split."""
    skills = list(SKILLS.values())
    weights = [PRACTICE.get(skill.name, 1) for skill in skills]
    while True:
        skill = rng.choices(skills, weights)[0]
        facts = skill.draw(rng, "train", rng.choice(skill.difficulties))
        text = skill.write(facts, rng.randrange(skill.wordings))
        if rng.random() < OFF_TOPIC:
            text = off_topic(rng, skill.source)
        prompt = rng.choice(OPENINGS) + text.prompt
        if rng.random() < RAW:
            yield Document(f"{prompt}\n", text.response)
            continue
        mind = rng.random()
        answer = text.response if mind < RIGHT else text.habit
        if mind > RIGHT + HABIT and text.habit != text.response:
            answer = REFUSAL
        yield Document(f"{PROMPT_HEAD}{prompt}{RESPONSE_HEAD}", answer)
