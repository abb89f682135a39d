"""Talk: doing exactly as told, and saying what is known to be true whatever people say."""

from __future__ import annotations

from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import COLOUR_OF, COLOURS, Split, name

GREETINGS = {"Greet": "Hello", "Thank": "Thanks", "Praise": "Bravo", "Warn": "Beware"}
MARKS = {"a star": "*", "a plus": "+", "a question mark": "?", "a hash": "#"}
COUNTS = {2: "two", 3: "three", 4: "four"}


def draw_greeting(rng: Random, split: Split, difficulty: int) -> Facts:
    """``difficulty`` out of capitals, brackets and a closing mark."""
    rules = sorted(rng.sample(("capitals", "brackets", "mark"), difficulty))
    return {
        "who": name(rng, split),
        "verb": rng.choice(sorted(GREETINGS)),
        "mark": rng.choice(sorted(MARKS)),
        "rules": rules,
    }


def write_greeting(facts: Facts, wording: int) -> Text:
    """The rules as one clause each; the habit greets and ignores them."""
    plain = f"{GREETINGS[facts['verb']]} {facts['who']}"
    answer = plain.upper() if "capitals" in facts["rules"] else plain
    answer = f"[{answer}]" if "brackets" in facts["rules"] else answer
    answer = answer + MARKS[facts["mark"]] if "mark" in facts["rules"] else answer
    clauses = {
        "capitals": ("use capital letters", "write in capital letters"),
        "brackets": ("put it in brackets", "use brackets"),
        "mark": (f"end with {facts['mark']}", f"put {facts['mark']} at the end"),
    }
    told = " and ".join(clauses[rule][wording % 2] for rule in facts["rules"])
    order = f"{facts['verb']} {facts['who']}"
    frames = (f"{order}, but {told}.", f"{order} and {told}.", f"{order}. Please {told}.")
    return Text(frames[wording % 3], answer, f"{plain}.")


def draw_repeat(rng: Random, split: Split, difficulty: int) -> Facts:
    """A word to say two to four times, with commas at the higher difficulty."""
    return {
        "who": name(rng, split).lower(),
        "count": rng.randint(2, 4),
        "separator": ", " if difficulty == 2 else " ",
    }


def write_repeat(facts: Facts, wording: int) -> Text:
    """The word so many times; the habit says it once."""
    count, who = COUNTS[facts["count"]], facts["who"]
    tail = " with commas" if facts["separator"] == ", " else ""
    frames = (
        f"Say the word {who} {count} times{tail}.",
        f"Write {who} {count} times{tail}.",
        f"Please repeat {who} {count} times{tail}.",
    )
    return Text(frames[wording], facts["separator"].join([who] * facts["count"]), who)


def draw_claim(rng: Random, split: Split, difficulty: int) -> Facts:
    """A thing whose colour is known, and ``difficulty`` people who say another."""
    thing = rng.choice(sorted(COLOUR_OF))
    others = [colour for colour in COLOURS if colour != COLOUR_OF[thing]]
    return {
        "people": [name(rng, split) for _ in range(difficulty)],
        "thing": thing,
        "colours": [COLOUR_OF[thing], *rng.sample(others, 3)],
    }


def write_claim(facts: Facts, wording: int) -> Text:
    """The claims, then the question; the habit repeats the first claim."""
    thing = facts["thing"]
    true, *false = facts["colours"]
    claims = zip(facts["people"], false, strict=False)
    said = " ".join(f"{who} says the {thing} is {colour}." for who, colour in claims)
    frames = (
        f"{said} What colour is the {thing}?",
        f"{said} Tell the true colour of the {thing}.",
        f"What colour is the {thing}? {said}",
    )
    return Text(frames[wording], f"It is {true}.", f"It is {false[0]}.")


SKILLS = (
    Skill("greet", "chat", (1, 2), 6, draw_greeting, write_greeting),
    Skill("repeat", "chat", (1, 2), 3, draw_repeat, write_repeat),
    Skill("truth", "chat", (1, 2), 3, draw_claim, write_claim),
)
