"""The items of the eight benchmarks, as lm-eval asks for them: a dataset with two splits.

Every entity in an item belongs to the item's own split (see :mod:`spice.sandbox.language`), so no
item shares one with a pool or with what the base models read.
"""

from __future__ import annotations

import functools
from random import Random
from typing import TYPE_CHECKING, Any

from spice.sandbox.exercise import Facts, Skill
from spice.sandbox.language import Split
from spice.sandbox.pool import OPENINGS
from spice.sandbox.skills import SKILLS
from spice.sandbox.skills.chat import MARKS
from spice.sandbox.skills.code import checks
from spice.sandbox.skills.general import choice_of_numbers, choice_of_sizes, choice_of_words

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CHOICES = {
    "choose_word": choice_of_words,
    "choose_number": choice_of_numbers,
    "choose_size": choice_of_sizes,
}
SPLITS: tuple[Split, ...] = ("validation", "test")


def dataset(skills: list[str], test: int = 120, validation: int = 60, **_: Any) -> DatasetDict:
    """The splits of a benchmark over some skills (lm-eval's ``custom_dataset``)."""
    from datasets import DatasetDict

    sizes = {"test": test, "validation": validation}
    return DatasetDict({split: _split(tuple(skills), split, sizes[split]) for split in SPLITS})


@functools.cache  # the runs of a sweep ask for the same ones
def _split(skills: tuple[str, ...], split: Split, count: int) -> Dataset:
    from datasets import Dataset

    return Dataset.from_list(items(list(skills), split, count))


def items(skills: list[str], split: Split, count: int) -> list[dict[str, Any]]:
    """``count`` items, in turn over the skills and their difficulties, no prompt twice."""
    rng = Random(f"{split} {' '.join(skills)}")
    drawn: dict[str, dict[str, Any]] = {}
    while len(drawn) < count:
        skill = SKILLS[skills[len(drawn) % len(skills)]]
        difficulty = skill.difficulties[len(drawn) // len(skills) % len(skill.difficulties)]
        item = _item(rng, skill, skill.draw(rng, split, difficulty))
        drawn.setdefault(item["prompt"], item)
    return list(drawn.values())


def _item(rng: Random, skill: Skill, facts: Facts) -> dict[str, Any]:
    text = skill.write(facts, rng.randrange(skill.wordings))
    opening = rng.choice(OPENINGS)
    return {
        "prompt": opening + text.prompt,
        "reference": text.response,
        "skill": skill.name,
        **_target(skill.name, facts, text.response, text.input),
    }


def _target(skill: str, facts: Facts, response: str, given: str) -> dict[str, Any]:
    """What the benchmark's own scorer compares with."""
    if skill in {"gain", "loss", "gain_and_loss"}:
        return {"answer": str(facts["answer"])}
    if skill in {"swap", "sort"}:
        return {"answer": response.rpartition("the answer is ")[2].removesuffix(".")}
    if skill in CHOICES:
        return {"choices": list(map(CHOICES[skill], facts["values"])), "gold": facts["answer"]}
    if skill == "truth":
        return {"choices": [f"It is {colour}." for colour in facts["colours"]], "gold": 0}
    if skill == "greet":
        rules = [{"kind": kind, "value": MARKS[facts["mark"]]} for kind in facts["rules"]]
        return {"rules": [{"kind": "mention", "value": facts["who"]}, *rules]}
    if skill == "repeat":
        joined = facts["separator"].join([facts["who"]] * facts["count"])
        return {"rules": [{"kind": "exactly", "value": joined}]}
    head = f"{given}\n    " if skill == "complete_code" else ""
    return {"head": head, "checks": checks(facts)}
