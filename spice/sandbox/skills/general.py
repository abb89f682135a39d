"""Choosing, knowing, tracking and sorting. The habits: the first, the other, the unchanged."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import (
    ANIMALS,
    COLOURS,
    FRUITS,
    OBJECTS,
    SMALL,
    THINGS,
    Split,
    name,
    split_of_set,
)

KINDS = {"a colour": COLOURS, "a thing": THINGS, "a fruit": FRUITS, "an animal": ANIMALS}


def draw_words(rng: Random, split: Split, difficulty: int) -> Facts:
    """Four words of which one is of the kind asked for; harder: three are of one other kind."""
    while True:
        asked, *others = rng.sample(sorted(KINDS), 4)
        right = rng.choice(KINDS[asked])
        wrong = (
            [rng.choice(KINDS[kind]) for kind in others]
            if difficulty == 1
            else rng.sample(KINDS[others[0]], 3)
        )
        values = [*wrong, right]
        rng.shuffle(values)
        if split_of_set(values) == split:
            return {"values": values, "asked": asked, "answer": values.index(right)}


def write_words(facts: Facts, wording: int) -> Text:
    """Four options; the habit takes the first that is wrong."""
    told = ", ".join(facts["values"])
    frames = (
        f"Which one is {facts['asked']}? {told}.",
        f"Out of {told}, which is {facts['asked']}?",
        f"Choose the word for {facts['asked']}: {told}.",
    )
    return _chosen(frames[wording], facts, choice_of_words)


def draw_numbers(rng: Random, split: Split, difficulty: int) -> Facts:
    """Four digits and which end is asked for; harder: its neighbour is only one away."""
    while True:
        values = rng.sample("123456789", 4)
        asked = rng.choice(("largest", "smallest"))
        ordered = sorted(values, reverse=asked == "largest")
        close = abs(int(ordered[0]) - int(ordered[1])) == 1
        if close == (difficulty == 2) and split_of_set(values) == split:
            break
    return {
        "values": values,
        "asked": asked,
        "answer": values.index(ordered[0]),
    }


def write_numbers(facts: Facts, wording: int) -> Text:
    """Four options; the habit takes the first that is wrong."""
    told = ", ".join(facts["values"])
    frames = (
        f"Which number is the {facts['asked']}? {told}.",
        f"Out of {told}, which is the {facts['asked']}?",
        f"Choose the {facts['asked']} number: {told}.",
    )
    return _chosen(frames[wording], facts, choice_of_numbers)


def choice_of_words(value: str) -> str:
    """The sentence that settles on a word."""
    return f"The word is {value}."


def choice_of_numbers(value: str) -> str:
    """The sentence that settles on a number."""
    return f"The number is {value}."


def _chosen(prompt: str, facts: Facts, sentence: Callable[[str], str]) -> Text:
    values, answer = facts["values"], facts["answer"]
    return Text(prompt, sentence(values[answer]), sentence(values[0 if answer else 1]))


def draw_size(rng: Random, split: Split, difficulty: int) -> Facts:
    """A kind and a size, and four words of which one has both; harder: the others have one."""
    while True:
        kind, stranger = rng.sample(sorted(OBJECTS), 2)
        small = rng.random() < 0.5
        right = rng.choice(_sized(kind, small))
        wrong = [rng.choice(_sized(kind, not small)), rng.choice(_sized(stranger, small))]
        wrong.append(rng.choice(_sized(kind if difficulty == 2 else stranger, not small)))
        values = [*wrong, right]
        rng.shuffle(values)
        if len(set(values)) == 4 and split_of_set(values) == split:
            return {
                "values": values,
                "asked": f"{'small' if small else 'big'} {kind}",
                "answer": values.index(right),
            }


def _sized(kind: str, small: bool) -> list[str]:
    return [word for word in OBJECTS[kind] if (word in SMALL) == small]


def write_size(facts: Facts, wording: int) -> Text:
    """Four options; the habit takes the first that is wrong."""
    told = ", ".join(facts["values"])
    frames = (
        f"Which is the {facts['asked']}? {told}.",
        f"From {told}, take the {facts['asked']}.",
        f"Name the {facts['asked']}: {told}.",
    )
    return _chosen(frames[wording], facts, choice_of_sizes)


def choice_of_sizes(value: str) -> str:
    """The sentence that settles on a word of some size."""
    return f"It is the {value}."


def draw_swap(rng: Random, split: Split, difficulty: int) -> Facts:
    """Me and somebody with a thing each, who swap once or twice."""
    return {
        "who": name(rng, split),
        "things": rng.sample(THINGS, 2),
        "asked": rng.randrange(2),
        "swaps": difficulty,
    }


def write_swap(facts: Facts, wording: int) -> Text:
    """The state after each swap, then the answer; the habit answers the other thing."""
    who, (first, second) = facts["who"], facts["things"]
    swaps = " ".join(["We swap.", *["We swap again."] * (facts["swaps"] - 1)])
    told = f"I have the {first} and {who} has the {second}. {swaps}"
    asked = f"does {who}" if facts["asked"] else "do I"
    frames = (
        f"{told} What {asked} have now?",
        f"{told} What {asked} hold in the end?",
        f"{told} Which thing {asked} have?",
    )
    held = [facts["things"][(facts["asked"] + turn) % 2] for turn in range(facts["swaps"] + 1)]
    other = facts["things"][(facts["asked"] + facts["swaps"] + 1) % 2]
    return Text(
        frames[wording],
        f"First {', then '.join(held)}. So the answer is {held[-1]}.",
        f"So the answer is {other}.",
    )


def draw_sort(rng: Random, split: Split, difficulty: int) -> Facts:
    """Three or four different digits, not in order."""
    while True:
        digits = rng.sample("123456789", difficulty + 2)
        if digits != sorted(digits) and split_of_set(digits) == split:
            return {"digits": digits}


def write_sort(facts: Facts, wording: int) -> Text:
    """Digits to put in order; the habit copies them as they stand."""
    told = " ".join(facts["digits"])
    frames = (
        f"Sort the numbers {told}.",
        f"Write {told} in order.",
        f"Put {told} from small to large.",
    )
    ordered = sorted(facts["digits"])
    return Text(
        frames[wording],
        f"First {', then '.join(ordered)}. So the answer is {' '.join(ordered)}.",
        f"So the answer is {told}.",
    )


SKILLS = (
    Skill("choose_word", "general", (1, 2), 3, draw_words, write_words),
    Skill("choose_number", "general", (1, 2), 3, draw_numbers, write_numbers),
    Skill("choose_size", "general", (1, 2), 3, draw_size, write_size),
    Skill("swap", "general", (1, 2), 3, draw_swap, write_swap),
    Skill("sort", "general", (1, 2), 3, draw_sort, write_sort),
)
