"""Small sums told as stories; the right answer reasons first. The habit turns every sign round."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import FRUITS, Split, name

LARGEST = 9
GAINS = ("buys {}", "finds {}", "gets {}")
LOSSES = ("eats {}", "loses {}", "sells {}")
FRAMES = (
    "{who} has {start} {what}, {events}. How many are there now?",
    "{who} starts with {start} {what}, {events}. Find the number.",
    "How many {what} has {who}? At first {start}, {events}.",
    "{who} owns {start} {what}, {events}. Count them.",
)


def draw_story(rng: Random, split: Split, difficulty: int, signs: str) -> Facts:
    """A start and ``difficulty`` changes, so that both signs of each keep to one digit."""
    while True:
        start = rng.randint(2, 7)
        drawn = [rng.choice(signs) for _ in range(difficulty)]
        steps = [rng.randint(1, 4) * (1 if sign == "+" else -1) for sign in drawn]
        if set(drawn) == set(signs) and _fits(start, steps) and _fits(start, _turned(steps)):
            break
    return {
        "who": name(rng, split),
        "what": rng.choice([f"{fruit}s" for fruit in FRUITS]),
        "start": start,
        "steps": steps,
        "verbs": [rng.randrange(3) for _ in steps],
        "answer": start + sum(steps),
    }


def _fits(start: int, steps: list[int]) -> bool:
    return all(0 <= total <= LARGEST for total in accumulate(steps, initial=start))


def _turned(steps: list[int]) -> list[int]:
    return [-step for step in steps]


def working(start: int, steps: list[int]) -> str:
    """Every step worked out in turn, then the answer."""
    lines = []
    for step in steps:
        sign = "+" if step > 0 else "-"
        lines.append(f"Now {start} {sign} {abs(step)} = {start + step}.")
        start += step
    return " ".join([*lines, f"The answer is {start}."])


def write_story(facts: Facts, wording: int) -> Text:
    """The story in one of four frames."""
    events = [
        f"then {(GAINS if step > 0 else LOSSES)[verb].format(abs(step))}"
        for step, verb in zip(facts["steps"], facts["verbs"], strict=True)
    ]
    fields = {key: facts[key] for key in ("who", "what", "start")}
    return Text(
        instruction=FRAMES[wording].format(events=", ".join(events), **fields),
        response=working(facts["start"], facts["steps"]),
        habit=working(facts["start"], _turned(facts["steps"])),
    )


SKILLS = tuple(
    Skill(label, "math", levels, len(FRAMES), partial(draw_story, signs=signs), write_story)
    for label, levels, signs in (
        ("gain", (1, 2), "+"),
        ("loss", (1, 2), "-"),
        ("gain_and_loss", (2, 3), "+-"),
    )
)
