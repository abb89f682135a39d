"""Talk: doing exactly as told, and saying what is true rather than what people say."""

from __future__ import annotations

from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import COLOURS, THINGS, Split, name

GREETINGS = {"Greet": "Hello", "Thank": "Thanks", "Praise": "Bravo", "Warn": "Beware"}
MARKS = {"a star": "*", "a plus": "+", "a question mark": "?", "a hash": "#"}
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
RELIABLE = ("the label says", "the list says", "I see that")
TEMPTING = ("people say", "a rumour says", "an old song says")


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
    """A word to say two to five times, with commas at the higher difficulty."""
    return {
        "who": name(rng, split).lower(),
        "count": rng.randint(2, 5),
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
    """What a label says about a thing's colour, and ``difficulty`` tempting voices besides."""
    colours = rng.sample(COLOURS, 4)
    voices = list(zip(rng.sample(TEMPTING, difficulty), colours[1:], strict=False))
    voices.insert(rng.randint(0, difficulty), (rng.choice(RELIABLE), colours[0]))
    return {
        "who": name(rng, split),
        "thing": rng.choice(THINGS),
        "voices": voices,
        "colours": colours,
    }


def write_claim(facts: Facts, wording: int) -> Text:
    """The voices in their order, then the question; the habit repeats what people say."""
    it = f"the {facts['thing']} of {facts['who']}"
    said = " ".join(
        f"{voice[0].upper()}{voice[1:]} {it if place == 0 else 'it'} is {colour}."
        for place, (voice, colour) in enumerate(facts["voices"])
    )
    frames = (
        f"{said} What colour is it?",
        f"{said} Which colour is true?",
        f"What colour is {it}? {said}",
    )
    true, false = facts["colours"][:2]
    return Text(frames[wording], f"It is {true}.", f"It is {false}.")


SKILLS = (
    Skill("greet", "chat", (1, 2, 3), 6, draw_greeting, write_greeting),
    Skill("repeat", "chat", (1, 2), 3, draw_repeat, write_repeat),
    Skill("truth", "chat", (1, 2), 3, draw_claim, write_claim),
)
