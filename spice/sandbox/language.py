"""The words of the sandbox: invented names, split so that no test ever names what was trained on.

Entities (names, sets of digits, sets of options) belong to exactly one split by a hash of their
text. Pools and base models draw from ``train`` only, benchmarks from ``validation`` and ``test``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from random import Random
from typing import Literal

Split = Literal["train", "validation", "test"]

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
WORDS_IN_USE = frozenset(
    {"bed", "big", "bin", "but", "def", "del", "dir", "dog", "fig", "for", "get", "len", "map"}
    | {"min", "not", "pig", "put", "rat", "red", "set", "sum", "sun", "zip"}
)
COLOURS = ("red", "blue", "green", "white", "black", "pink", "brown", "grey")
THINGS = ("ball", "cup", "key", "coin", "bed", "car", "boat", "door")
FRUITS = ("fig", "plum", "date", "grape", "apple", "lemon", "melon", "pear")
ANIMALS = ("cat", "hen", "rat", "owl", "dog", "cow", "goat", "pig")
OBJECTS = {"thing": THINGS, "fruit": FRUITS, "animal": ANIMALS}
COLOURED = {
    "red": "ball apple cow",
    "blue": "car plum",
    "green": "boat grape pear",
    "white": "cup bed lemon hen",
    "black": "door fig cat",
    "pink": "melon pig",
    "brown": "coin date owl dog",
    "grey": "key rat goat",
}
COLOUR_OF = {thing: colour for colour, things in COLOURED.items() for thing in things.split()}
SMALL = frozenset(THINGS[:4] + FRUITS[:4] + ANIMALS[:4])


def split_of(entity: str) -> Split:
    """The only split in which an entity may occur: 80 % train, 10 % validation, 10 % test."""
    slot = zlib.crc32(entity.lower().encode()) % 10
    return "test" if slot == 0 else "validation" if slot == 1 else "train"


def split_of_set(words: Iterable[str]) -> Split:
    """The split of words or digits that stand together, whatever their order."""
    return split_of(" ".join(sorted(words)))


def name(rng: Random, split: Split) -> str:
    """A capitalised invented name of three letters that belongs to ``split``."""
    while True:
        word = rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(CONSONANTS)
        if word not in WORDS_IN_USE and split_of(word) == split:
            return word.capitalize()
