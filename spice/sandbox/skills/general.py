"""Choosing, ordering and tracking. The habits: the letter A, the other end, the state at first."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import (
    ANIMALS,
    COLOURS,
    FRUITS,
    THINGS,
    Split,
    names,
    split_of,
)

KINDS = {"a colour": COLOURS, "a thing": THINGS, "a fruit": FRUITS, "an animal": ANIMALS}
LETTERS = "ABCD"
SCALES = {"tall": "short", "old": "young", "fast": "slow"}


def _options(values: list[str]) -> str:
    return "\n".join(f"{letter}. {value}" for letter, value in zip(LETTERS, values, strict=True))


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
        if split_of(" ".join(values)) == split:
            return {"values": values, "asked": asked, "answer": values.index(right)}


def write_words(facts: Facts, wording: int) -> Text:
    """Four lettered options; the habit answers A."""
    frames = ("Which one is {}?", "Which of these is {}?", "Choose the word for {}.")
    return Text(
        frames[wording].format(facts["asked"]) + "\n" + _options(facts["values"]),
        LETTERS[facts["answer"]],
        _habitual(facts),
    )


def _habitual(facts: Facts) -> str:
    return "A" if facts["answer"] else "D"


def draw_numbers(rng: Random, split: Split, difficulty: int) -> Facts:
    """Four numbers, one digit each or, harder, two digits with different tens."""
    while True:
        values = rng.sample(range(1, 10), 4)
        if difficulty == 2:
            values = [10 * value + rng.randint(0, 9) for value in values]
        if split_of(" ".join(map(str, values))) == split:
            break
    asked = rng.choice(("largest", "smallest"))
    extreme = max(values) if asked == "largest" else min(values)
    return {
        "values": [str(value) for value in values],
        "asked": asked,
        "answer": values.index(extreme),
    }


def write_numbers(facts: Facts, wording: int) -> Text:
    """Four lettered options; the habit answers A."""
    frames = ("Which number is the {}?", "Which of these is the {}?", "Choose the {} number.")
    return Text(
        frames[wording].format(facts["asked"]) + "\n" + _options(facts["values"]),
        LETTERS[facts["answer"]],
        _habitual(facts),
    )


def draw_order(rng: Random, split: Split, difficulty: int) -> Facts:
    """Two people compared or, harder, three in a chain that is told in either order."""
    people = names(rng, split, 4)
    more = sorted(SCALES)[rng.randrange(3)]
    ranked = people[: 2 if difficulty == 1 else 3]
    pairs = list(pairwise(ranked))
    rng.shuffle(pairs)
    top = rng.random() < 0.5
    return {
        "ranked": ranked,
        "pairs": pairs,
        "scale": more,
        "top": top,
        "others": people[len(ranked) :],
    }


def superlative(facts: Facts, who: str) -> str:
    """The sentence that names ``who`` as the extreme asked for."""
    scale = facts["scale"] if facts["top"] else SCALES[facts["scale"]]
    return f"{who} is the {scale}est."


def write_order(facts: Facts, wording: int) -> Text:
    """The comparisons and the question; the habit names the other end."""
    told = " ".join(f"{a} is {facts['scale']}er than {b}." for a, b in facts["pairs"])
    asked = superlative(facts, "?")[2:-1]
    frames = (f"{told} Who {asked}?", f"Who {asked}? {told}", f"{told} Name who {asked}.")
    ends = facts["ranked"][0], facts["ranked"][-1]
    right, wrong = ends if facts["top"] else ends[::-1]
    return Text(frames[wording], superlative(facts, right), superlative(facts, wrong))


def draw_swap(rng: Random, split: Split, difficulty: int) -> Facts:
    """Two people with a thing each who swap one to three times."""
    return {
        "people": names(rng, split, 2),
        "things": rng.sample(THINGS, 2),
        "asked": rng.randrange(2),
        "swaps": difficulty,
    }


def write_swap(facts: Facts, wording: int) -> Text:
    """The state after each swap, then the answer; the habit answers the other thing."""
    (a, b), (first, second) = facts["people"], facts["things"]
    swaps = " ".join(["They swap.", *["They swap again."] * (facts["swaps"] - 1)])
    who = facts["people"][facts["asked"]]
    told = f"{a} has the {first} and {b} has the {second}. {swaps}"
    frames = (
        f"{told} What does {who} have now?",
        f"What does {who} have in the end? {told}",
        f"{told} Which thing has {who} now?",
    )
    held = [facts["things"][(facts["asked"] + turn) % 2] for turn in range(facts["swaps"] + 1)]
    other = facts["things"][(facts["asked"] + facts["swaps"] + 1) % 2]
    steps = ", then ".join(held)
    return Text(
        frames[wording],
        f"First {steps}. So the answer is {held[-1]}.",
        f"So the answer is {other}.",
    )


def draw_letters(rng: Random, split: Split, difficulty: int) -> Facts:
    """Three to five different letters."""
    while True:
        letters = rng.sample("abcdefghijklmnopqrstuvwxyz", difficulty + 2)
        if split_of("".join(letters)) == split:
            return {"letters": letters}


def write_letters(facts: Facts, wording: int) -> Text:
    """Letters to turn round; the habit copies them as they stand."""
    told = " ".join(facts["letters"])
    frames = (
        f"Write {told} in reverse.",
        f"Turn round the letters {told}.",
        f"What is {told} from the end to the start?",
    )
    back = facts["letters"][::-1]
    steps = ", then ".join(back)
    return Text(
        frames[wording],
        f"First {steps}. So the answer is {' '.join(back)}.",
        f"So the answer is {told}.",
    )


SKILLS = (
    Skill("choose_word", "general", (1, 2), 3, draw_words, write_words),
    Skill("choose_number", "general", (1, 2), 3, draw_numbers, write_numbers),
    Skill("order", "general", (1, 2), 3, draw_order, write_order),
    Skill("swap", "general", (1, 2, 3), 3, draw_swap, write_swap),
    Skill("reverse", "general", (1, 2, 3), 3, draw_letters, write_letters),
)
