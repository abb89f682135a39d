"""Keys that are null until somebody puts names of his own under them, as columns have them."""

from __future__ import annotations

import re
from collections.abc import Sequence

OPEN = re.compile(r"(data(\.\w+)*\.(columns|roles|kinds|copies)|selector\.quotas)\.[^=]+=")


def opened(arguments: Sequence[str]) -> list[str]:
    """The command line with Hydra's sign for a new key where one is put under an open key.

    >>> opened(["data.columns.response=answer", "seed=1"])
    ['+data.columns.response=answer', 'seed=1']
    """
    return [f"+{word}" if OPEN.match(word) else word for word in arguments]
