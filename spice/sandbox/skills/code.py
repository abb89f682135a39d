"""Python functions of one line, to complete or to write. The habit does the opposite operation."""

from __future__ import annotations

from random import Random

from spice.sandbox.exercise import Facts, Skill, Text
from spice.sandbox.language import Split, name

LETTERS = "abcdhkmnpqrtxyz"
NUMBERS = ((7, 2), (3, 9), (4, 4))
LISTS = (([5, 2, 9],), ([1, 8],), ([6, 3, 7, 4],))

# difficulty, description, expression, opposite expression, sample arguments
OPERATIONS = (
    (1, "the sum of {x} and {y}", "{x} + {y}", "{x} - {y}", NUMBERS),
    (1, "{x} minus {y}", "{x} - {y}", "{x} + {y}", NUMBERS),
    (1, "the product of {x} and {y}", "{x} * {y}", "{x} + {y}", NUMBERS),
    (2, "the larger of {x} and {y}", "max({x}, {y})", "min({x}, {y})", NUMBERS),
    (2, "the smaller of {x} and {y}", "min({x}, {y})", "max({x}, {y})", NUMBERS),
    (2, "the first item of {x}", "{x}[0]", "{x}[-1]", LISTS),
    (2, "the last item of {x}", "{x}[-1]", "{x}[0]", LISTS),
    (2, "the number of items in {x}", "len({x})", "sum({x})", LISTS),
    (2, "the sum of all items in {x}", "sum({x})", "len({x})", LISTS),
    (3, "the sum of {x} and {y}, minus {c}", "{x} + {y} - {c}", "{x} - {y} + {c}", NUMBERS),
    (3, "{x} minus {y}, times {c}", "({x} - {y}) * {c}", "({x} + {y}) * {c}", NUMBERS),
    (3, "the largest item of {x}, minus {c}", "max({x}) - {c}", "min({x}) - {c}", LISTS),
    (3, "the smallest item of {x}, minus {c}", "min({x}) - {c}", "max({x}) - {c}", LISTS),
)
COMPLETE = ("Complete this function.", "Finish the function.", "Write the last line of this code.")
WRITE = (
    "Write a function {who} that returns {what}.",
    "Write code for {who}({args}), which returns {what}.",
    "I need a function {who} of {args}. It returns {what}.",
)


def draw_function(rng: Random, split: Split, difficulty: int) -> Facts:
    """An operation, the function's name and its arguments' letters."""
    _, what, right, opposite, samples = rng.choice(
        [operation for operation in OPERATIONS if operation[0] == difficulty]
    )
    x, y = rng.sample(LETTERS, 2)
    fields = {"x": x, "y": y, "c": str(rng.randint(2, 9))}
    expression = right.format(**fields)
    return {
        "who": name(rng, split).lower(),
        "args": f"{x}, {y}" if len(samples[0]) == 2 else x,
        "what": what.format(**fields),
        "expression": expression,
        "opposite": opposite.format(**fields),
        "samples": samples,
    }


def write_completion(facts: Facts, wording: int) -> Text:
    """The head and docstring are given; the answer is the line after them."""
    head = f'def {facts["who"]}({facts["args"]}):\n    """Return {facts["what"]}."""'
    return Text(
        instruction=COMPLETE[wording],
        input=head,
        response=f"return {facts['expression']}",
        habit=f"return {facts['opposite']}",
    )


def write_function(facts: Facts, wording: int) -> Text:
    """A sentence describes the function; the answer is the whole of it."""
    head = f"def {facts['who']}({facts['args']}):\n    return "
    return Text(
        instruction=WRITE[wording].format(**facts),
        response=head + facts["expression"],
        habit=head + facts["opposite"],
    )


def checks(facts: Facts) -> str:
    """Assertions that the right function passes; the expected values are computed here."""
    arguments = facts["args"].split(", ")
    lines = []
    for sample in facts["samples"]:
        builtin = {"max": max, "min": min, "len": len, "sum": sum}
        bound = dict(zip(arguments, sample, strict=True))
        # An expression of this file's own, and nobody else's.
        expected = eval(facts["expression"], {"__builtins__": builtin}, bound)  # nosec B307
        call = ", ".join(map(repr, sample))
        lines.append(f"assert {facts['who']}({call}) == {expected!r}")
    return "\n".join(lines)


SKILLS = (
    Skill("complete_code", "code", (1, 2, 3), len(COMPLETE), draw_function, write_completion),
    Skill("write_code", "code", (1, 2, 3), len(WRITE), draw_function, write_function),
)
