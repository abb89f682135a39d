"""The rows of the study: a pool, rows held out, development examples, and noise for the pool.

Drawn by hash from the six public pools in the folder that ``SPICE_REAL_DATA`` names, in proportion
to their sizes; no text is in two of the parts. Fifty rows of the pool have a broken twin, made in
one of five known ways; a planted pool has the twin in the row's place. That is done five times,
each time with other rows, since one choice of a hundred says little about five in a hundred.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from spice.data.identity import identify
from spice.data.pool import FilePool
from spice.errors import InputError
from spice.records import Row
from spice.selectors.mix import largest_remainders

FILES = ("gsm8k_train", "code_alpaca_2k", "codegen_instruct", "alpaca_random", "oasst1_en", "lima")
SEED = 51279  # drawn after all else was fixed, see ../reliability/LOG.md
POOL, HELD_OUT, EXAMPLES = 1000, 200, 60
BROKEN, PLANTINGS = 50, 5
WAYS = ("swapped", "cut", "shuffled", "garbled", "empty")
PHRASES = ("Sure!", "I see.", "Thank you for your question.", "OK.", "As you wish.")
SHORTEST = 8  # words of an answer that can be broken visibly


@dataclass(frozen=True)
class Planting:
    """``rows`` that are broken twins of others; by id, ``twin_of`` is the row in whose place one
    stands, ``way`` how it was broken."""

    rows: list[Row]
    twin_of: dict[str, str]
    way: dict[str, str]


@dataclass(frozen=True)
class Parts:
    """The ``pool``, what is planted in it, the rows ``held_out`` and the development examples."""

    pool: list[Row]
    plantings: list[Planting]
    held_out: list[Row]
    examples: list[Row]


def folder() -> Path:
    """Where the public pools are.

    Raises:
        InputError: ``SPICE_REAL_DATA`` is not set, or has no pools.
    """
    named = os.environ.get("SPICE_REAL_DATA")
    found = Path(named) / "pools" if named else None
    if found is None or not found.is_dir():
        raise InputError("SPICE_REAL_DATA must name the folder whose `pools` hold the six files")
    return found


def draw(seed: int = SEED) -> Parts:
    """The same parts for the same seed, whatever the order of the files' rows."""
    by_source = {name: _shuffled(name, seed) for name in FILES}
    sizes = {name: len(rows) for name, rows in by_source.items()}
    even = dict.fromkeys(FILES, 1)
    parts: list[list[Row]] = []
    for count, shares in ((POOL, sizes), (HELD_OUT, even), (EXAMPLES, even)):
        taken = largest_remainders(shares, count)
        parts.append([row for name in FILES for row in by_source[name][: taken[name]]])
        by_source = {name: rows[taken[name] :] for name, rows in by_source.items()}
    pool, held_out, examples = parts
    return Parts(pool, [plant(pool, seed + p) for p in range(PLANTINGS)], held_out, examples)


def _shuffled(name: str, seed: int) -> list[Row]:
    """A file's rows under the file's name, each text once, in an order that its text decides."""
    rows = FilePool([str(folder() / f"{name}.jsonl")], None, "skip").load().rows
    named = {row.id.split("#")[0]: dataclasses.replace(row, source=name) for row in rows}
    order = sorted(named, key=lambda row_id: hashlib.sha256(f"{seed} {row_id}".encode()).digest())
    return [named[row_id] for row_id in order]


def plant(pool: Sequence[Row], seed: int) -> Planting:
    """Broken twins of some rows."""
    rng = Random(seed)
    breakable = [row for row in pool if len(row.response.split()) >= SHORTEST]
    chosen = rng.sample(breakable, BROKEN)
    ways = [WAYS[i % len(WAYS)] for i in range(BROKEN)]
    swapped = [row for row, way in zip(chosen, ways, strict=True) if way == "swapped"]
    others = dict(zip((r.id for r in swapped), swapped[1:] + swapped[:1], strict=True))
    answers = [
        break_answer(row.response, way, rng, others[row.id].response if row.id in others else "")
        for row, way in zip(chosen, ways, strict=True)
    ]
    twins = [
        dataclasses.replace(row, id="", response=answer)
        for row, answer in zip(chosen, answers, strict=True)
    ]
    twins = identify(twins)
    ids = [row.id for row in chosen]
    return Planting(
        twins,
        {twin.id: row_id for twin, row_id in zip(twins, ids, strict=True)},
        {twin.id: way for twin, way in zip(twins, ways, strict=True)},
    )


def break_answer(answer: str, way: str, rng: Random, other: str) -> str:
    """The answer broken in one of :data:`WAYS`; ``other`` is what stands there if swapped."""
    if way == "swapped":
        return other
    if way == "cut":  # in the middle of a word
        middle = len(answer) // 2
        while answer[middle - 1].isspace() or answer[middle].isspace():
            middle -= 1
        return answer[:middle]
    if way == "shuffled":
        words = answer.split()
        rng.shuffle(words)
        return " ".join(words)
    if way == "garbled":  # UTF-16 read as if it were of single bytes, then shown as UTF-8
        return answer.encode("utf-16-be").decode("utf-16-le", errors="replace")[: len(answer) // 2]
    return rng.choice(PHRASES)
