"""Small sums told as stories; the right answer reasons first. The habit turns every sign round."""

from __future__ import annotations

from functools import partial
from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import FRUITS, Split, name

LARGEST = 20
GAINS = ("buys {} more", "finds {} more", "gets {} more")
LOSSES = ("gives away {}", "loses {}", "sells {}")
FRAMES = (
    "{who} has {start} {what}. {events} How many {what} does {who} have now?",
    "There are {start} {what} in the box of {who}. {events} How many {what} are in the box now?",
    "How many {what} are left? {who} has {start} {what}. {events}",
    "{who} starts with {start} {what}. {events} Find the number of {what} now.",
)


def draw_story(rng: Random, split: Split, difficulty: int, signs: str) -> Facts:
    """A start and ``difficulty`` changes, so that both signs of each keep within 0..20."""
    steps: list[int] = []
    start = 0
    while not steps or not (_fits(start, steps) and _fits(start, [-s for s in steps])):
        start = rng.randint(2, 12)
        drawn = [rng.choice(signs) for _ in range(difficulty)]
        steps = [rng.randint(1, 9) * (1 if sign == "+" else -1) for sign in drawn]
        if len(signs) > 1 and len(set(drawn)) == 1:
            steps = []
    what = rng.choice(FRUITS)
    verbs = [rng.randrange(3) for _ in steps]
    return {
        "who": name(rng, split),
        "what": f"{what}es" if what == "peach" else f"{what}s",
        "start": start,
        "steps": steps,
        "verbs": verbs,
        "answer": start + sum(steps),
    }


def _fits(start: int, steps: list[int]) -> bool:
    total, inside = start, True
    for step in steps:
        total += step
        inside = inside and 0 <= total <= LARGEST
    return inside


def working(start: int, steps: list[int]) -> str:
    """Every step worked out in turn, then the answer."""
    lines = []
    for step in steps:
        sign = "+" if step > 0 else "-"
        lines.append(f"{start} {sign} {abs(step)} = {start + step}.")
        start += step
    return " ".join([*lines, f"The answer is {start}."])


def write_story(facts: Facts, wording: int) -> Text:
    """The story in one of four frames."""
    events = []
    for position, (step, verb) in enumerate(zip(facts["steps"], facts["verbs"], strict=True)):
        phrase = (GAINS if step > 0 else LOSSES)[verb].format(abs(step))
        events.append(f"{'Then' if position else 'Now'} {facts['who']} {phrase}.")
    fields = {key: facts[key] for key in ("who", "what", "start")}
    return Text(
        instruction=FRAMES[wording].format(events=" ".join(events), **fields),
        response=working(facts["start"], facts["steps"]),
        habit=working(facts["start"], [-step for step in facts["steps"]]),
    )


SKILLS = tuple(
    Skill(label, "math", levels, len(FRAMES), partial(draw_story, signs=signs), write_story)
    for label, levels, signs in (
        ("gain", (1, 2), "+"),
        ("loss", (1, 2), "-"),
        ("gain_and_loss", (2, 3), "+-"),
    )
)
