"""What a run says: one line per fact, the stage it belongs to in front; and how texts are shown."""

from __future__ import annotations

import logging
import re
import sys

log = logging.getLogger("spice")

#: signs that a terminal or a browser obeys instead of showing them, and halves of signs
CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
#: what Markdown or its HTML gives a meaning within a line
ACTIVE = re.compile(
    r"[\\`*|~$]|(?<!\w)_|_(?!\w)|!(?=\[)|\](?=[(\[])|:(?=//)|(?<=www)\.", re.IGNORECASE
)
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def shown(text: str, lines: bool = False) -> str:
    r"""A text of anybody's as a terminal, a log or a page may have it: controls are spelt out.

    It becomes one line; with ``lines`` its line breaks and tabs are kept.

    >>> shown("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """

    def spelt(found: re.Match[str]) -> str:
        sign = found[0]
        return sign if lines and sign in "\n\t" else sign.encode("unicode_escape").decode()

    return CONTROLS.sub(spelt, text)


def in_markdown(text: str) -> str:
    r"""A text as one line of Markdown that shows it and does nothing else.

    >>> in_markdown("<b> a|b [c](d)")
    '&lt;b&gt; a\\|b [c\\](d)'
    """
    marked = ACTIVE.sub(lambda found: "\\" + found[0], shown(text))
    return "".join(ENTITIES.get(sign, sign) for sign in marked)


class Shown(logging.Formatter):
    """Messages on the terminal and in run.log, which hold names and texts of the user's."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, its controls spelt out."""
        return shown(super().format(record), lines=True)


def hear() -> None:
    """Show messages where nothing has set logging up, as in a process whose jobs are elsewhere."""
    if not log.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Shown())
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def say(stage: str, message: str) -> None:
    """Tell a fact."""
    log.info("%-11s %s", stage, shown(message, lines=True))


def warn(stage: str, message: str) -> None:
    """Tell what its reader should act on."""
    log.warning("%-11s warning: %s", stage, shown(message, lines=True))
