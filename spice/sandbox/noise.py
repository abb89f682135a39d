"""Rows that teach no benchmark: off-topic talk, and answers broken in five ways."""

from __future__ import annotations

from random import Random

from spice.sandbox.exercise import Text
from spice.sandbox.language import ANIMALS, COLOURS, FRUITS, THINGS, name

WEATHER = ("The wind is cold.", "The sky is {}.", "The rain is slow.", "The sun is {}.")
DEEDS = ("finds a {} {}", "sees a {} {}", "sells the {} {}", "puts a {} {} in the box")
PRINTABLE = "".join(map(chr, range(33, 127)))
BREAKAGES = ("garbage", "stutter", "cut", "format", "hollow")


def off_topic(rng: Random, source: str) -> Text:
    """A sound answer to something that no benchmark asks."""
    instruction, response = {
        "math": _counting,
        "code": _comment,
        "chat": _weather,
        "general": _tale,
    }[source](rng)
    return Text(instruction, response, response)


def _counting(rng: Random) -> tuple[str, str]:
    start, length = rng.randint(1, 60), rng.randint(3, 9)
    numbers = range(start, start + length)
    who = name(rng, "train")
    return f"Say the numbers from {start} to {numbers[-1]} with {who}.", " ".join(map(str, numbers))


def _comment(rng: Random) -> tuple[str, str]:
    who, thing = name(rng, "train").lower(), rng.choice(THINGS)
    colour = rng.choice(COLOURS)
    return f"Write a note for {who}, the code of the {thing}.", f"# {who} is a {colour} {thing}."


def _weather(rng: Random) -> tuple[str, str]:
    said = [rng.choice(WEATHER).format(rng.choice(COLOURS)) for _ in range(rng.randint(1, 5))]
    return f"Tell {name(rng, 'train')} of the weather.", " ".join(said)


def _tale(rng: Random) -> tuple[str, str]:
    who = name(rng, "train")
    said = [
        f"{who} {rng.choice(DEEDS).format(rng.choice(COLOURS), rng.choice(FRUITS + ANIMALS))}."
        for _ in range(rng.randint(2, 6))
    ]
    return f"Tell a tale of {who}.", " ".join(said)


def malformed(rng: Random, text: Text) -> Text:
    """The exercise with its answer broken: garbage, stutter, cut, wrong format or hollow."""
    broken = {
        "garbage": _garbage,
        "stutter": _stutter,
        "cut": _cut,
        "format": _format,
        "hollow": _hollow,
    }[rng.choice(BREAKAGES)](rng, text.response)
    return Text(text.instruction, broken, broken, text.input)


def _garbage(rng: Random, answer: str) -> str:
    return "".join(rng.choice(PRINTABLE) for _ in range(rng.randint(8, 30)))


def _stutter(rng: Random, answer: str) -> str:
    return " ".join([answer.split()[-1]] * rng.randint(8, 24))


def _cut(rng: Random, answer: str) -> str:
    return answer[: max(1, rng.randint(len(answer) // 4, len(answer) // 2))]


def _format(rng: Random, answer: str) -> str:
    key = rng.choice(("a", "x", "out"))
    return rng.choice((f'{{"{key}": "{answer}"}}', f"<{key}>{answer}</{key}>", f"**{answer}**"))


def _hollow(rng: Random, answer: str) -> str:
    return rng.choice((".", "...", "-", "?", "n/a"))
