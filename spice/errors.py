"""The one exception that is a message to the user."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used. ``str(error)`` is all that he needs to mend it.

    The command line prints it as one line, without a traceback, and exits with 2.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word closest to ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
