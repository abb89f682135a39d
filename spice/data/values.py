"""What a value of a record is: absent, empty, text, or of a kind that is no text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class BadRowError(ValueError):
    """A record that is no row; the message says why, the reader adds where."""


def absent(value: Any) -> bool:
    """Whether there is no value, whoever wrote it: null, or the NaN of a table without nulls."""
    return value is None or (isinstance(value, float) and value != value)


def empty(value: Any) -> bool:
    """Whether nothing can be lost by not reading it."""
    return absent(value) or value in ([], {}) or (isinstance(value, str) and not value.strip())


def text(value: Any, key: str) -> str:
    """The value, if it is text that a file can hold.

    Raises:
        BadRowError: it is not.
    """
    if not isinstance(value, str):
        raise BadRowError(f"'{key}' must be text, not {kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON's \\ud83d without its other half: no file holds it
        raise BadRowError(f"'{key}' holds half a character ({value[error.start]!r})") from None
    return value


def one_line(name: str) -> str:
    """A name that can stand in a table and on a terminal: without control characters."""
    if name.isprintable() and name == name.strip():
        return name
    return " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())


def listed(names: Iterable[Any]) -> str:
    """The first of some names, in quotes."""
    return ", ".join(repr(name) for name in list(names)[:8]) or "nothing"


def kind(value: Any) -> str:
    """What a value is called in a message."""
    if absent(value):
        return "null"
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    return names.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )
