"""Threads that see to it that no process of a run waits for one that is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

PARENT = 1.0  # seconds between looks at whether the starter is still there
EACH = 0.5  # seconds between looks at what helpers tell
GRACE = 10.0  # seconds in which a run should have come upon a helper's end by itself


def with_parent() -> None:
    """End this process once the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


class Watch:
    """Looks at ``lost`` while the run works with its helpers, which says why one is gone.

    The run may be in a library's call that waits for that helper for ever, and hears nothing.
    """

    def __init__(self, lost: Callable[[], BaseException | None]) -> None:
        self.lost = lost
        self.over = threading.Event()

        self.thread = threading.Thread(target=self._watch, name="helpers", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()  # one that is left in a call of torch's ends the process badly

    def _watch(self) -> None:
        while not self.over.wait(EACH):
            why = self.lost()
            if why is not None and not self.over.wait(GRACE):
                print(f"spice: {why}", file=sys.stderr, flush=True)
                os._exit(2)
