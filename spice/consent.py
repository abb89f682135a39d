"""Which packages beside this one a configuration may take code from.

A configuration is also handed on, in run folders for instance, so that no line of it may decide
which code runs. The environment may, which no file can set.
"""

from __future__ import annotations

import os

CONSENT = "SPICE_PLUGINS"


def granted(package: str) -> bool:
    """Whether the environment names the package."""
    return package in os.environ.get(CONSENT, "").split(",")
