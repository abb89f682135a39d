import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

from spice.errors import InputError
from spice.sandbox.pool import KINDS, SOURCES, apportion, generate, pool, truth
from spice.sandbox.skills import SKILLS


def fingerprint(size: int, seed: int) -> str:
    lines = (
        f"{row.source}|{row.instruction}|{row.input}|{row.response}|{known}"
        for row, known in generate(size, seed)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_the_same_arguments_give_the_same_rows():
    assert pool(200, 3) == pool(200, 3)
    assert pool(200, 3) != pool(200, 4)


def test_generation_is_pinned():
    assert fingerprint(300, 7) == "16e2eebdaa471be6"


@pytest.mark.parametrize("size", [1, 7, 120, 1200, 1201])
def test_sizes_are_exact(size):
    assert len(generate(size)) == size


def test_shares_of_kinds_are_exact_by_largest_remainder():
    kinds = Counter(known.kind for _, known in generate(1201, 2))
    assert kinds == {k: c for k, c in apportion(1201, KINDS).items() if c}
    only = Counter(known.kind for _, known in generate(50, 0, {"clean": 2, "contradicting": 1}))
    assert only == {"clean": 33, "contradicting": 17}


def test_apportion_gives_the_largest_remainders_the_rest():
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert sum(apportion(97, KINDS).values()) == 97


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"celan": 1.0}, "no kind 'celan'; known are clean"),
        ({"redundant": 1.0}, "paraphrase"),
        ({"clean": -1.0}, r"data\.kinds\.clean=-1\.0: must be a number"),
        ({"clean": float("nan")}, "must be a number"),
        ({"clean": "a"}, "must be a number"),
        ({"clean": 0.0}, "at least one share"),
        ({}, "give shares of clean"),
        (3, "give shares of clean"),
    ],
)
def test_shares_that_no_rows_can_have_are_refused(kinds, message):
    with pytest.raises(InputError, match=message):
        pool(10, kinds=kinds)


def test_every_row_has_its_truth_and_its_own_id():
    rows = pool(1200, 5)
    known = truth(1200, 5)
    assert len({row.id for row in rows}) == len(rows) == len(known)
    assert all(row.id in known and row.response and row.source in SOURCES for row in rows)
    assert {t.skill for t in known.values()} == {*SKILLS, ""}


def test_redundant_rows_paraphrase_a_clean_row_with_the_same_answer():
    groups = defaultdict(list)
    for row, known in generate(1200, 1):
        groups[known.group].append((row, known))
    copies = [members for members in groups.values() if len(members) > 1]
    assert sum(len(members) - 1 for members in copies) == apportion(1200, KINDS)["redundant"]
    for members in copies:
        assert Counter(known.kind for _, known in members)["clean"] == 1
        assert len({row.response for row, _ in members}) == 1
        assert len({row.prompt for row, _ in members}) == len(members)


def test_contradicting_rows_are_wrong():
    wrong = {row.prompt: row.response for row, t in generate(1200, 1) if t.kind == "contradicting"}
    right = {row.prompt: row.response for row, t in generate(1200, 1) if t.kind == "clean"}
    assert not set(wrong) & set(right)
    for skill in SKILLS.values():
        for difficulty in skill.difficulties:
            rng = Random(difficulty)
            for _ in range(50):
                text = skill.write(skill.draw(rng, "train", difficulty), 0)
                assert text.habit != text.response


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_distinct_and_fit_a_gigabyte():
    program = """
from experiments.performance.timing import peak_memory
from spice.sandbox.pool import pool
print(len({row.id for row in pool(100_000)}), peak_memory())
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=root
    )
    distinct, peak = map(int, done.stdout.split())
    assert distinct == 100_000
    assert peak < 2**30
