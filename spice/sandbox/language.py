"""The words of the sandbox: invented names, split so that no test ever names what was trained on.

Entities (names, letter sequences, option sets) belong to exactly one split by a hash of their
text. Pools and base models draw from ``train`` only, benchmarks from ``validation`` and ``test``.
"""

from __future__ import annotations

import zlib
from random import Random
from typing import Literal

Split = Literal["train", "validation", "test"]

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
WORDS_IN_USE = frozenset(
    {"bin", "def", "del", "dir", "fig", "for", "line", "map", "min", "not", "note", "pen", "pig"}
    | {"put", "set", "sum", "tale", "zip"}
)
COLOURS = ("red", "blue", "green", "white", "black", "pink", "brown", "grey")
THINGS = ("ball", "cup", "hat", "book", "key", "box", "pen", "coin")
FRUITS = ("apple", "pear", "plum", "fig", "lemon", "melon", "grape", "peach")
ANIMALS = ("cat", "dog", "cow", "hen", "fox", "owl", "pig", "goat")


def split_of(entity: str) -> Split:
    """The only split in which an entity may occur: 80 % train, 10 % validation, 10 % test."""
    slot = zlib.crc32(entity.lower().encode()) % 10
    return "test" if slot == 0 else "validation" if slot == 1 else "train"


def name(rng: Random, split: Split, initials: str = CONSONANTS) -> str:
    """A capitalised invented name of three or four letters that belongs to ``split``."""
    while True:
        word = rng.choice(initials) + rng.choice(VOWELS) + rng.choice(CONSONANTS)
        if rng.random() < 0.5:
            word += rng.choice(VOWELS)
        if word not in WORDS_IN_USE and split_of(word) == split:
            return word.capitalize()


def names(rng: Random, split: Split, count: int) -> list[str]:
    """Names of one split with different initials."""
    return [name(rng, split, initial) for initial in rng.sample(CONSONANTS, count)]
