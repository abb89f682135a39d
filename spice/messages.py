"""What a run says: one line per fact, the stage it belongs to in front."""

from __future__ import annotations

import logging

log = logging.getLogger("spice")


def say(stage: str, message: str) -> None:
    """Tell a fact."""
    log.info("%-11s %s", stage, message)


def warn(stage: str, message: str) -> None:
    """Tell what its reader should act on."""
    log.warning("%-11s warning: %s", stage, message)
