"""What is told of a run while it goes on: lines in its log, and on a terminal a live display.

A thread looks at all that goes on twice a second, so that a loop says what it has done and nothing
else, and one that is held up in a single long batch is told of all the same. It is a daemon: no
process stays for it. The run alone has one; its helpers, and the processes of other launchers'
jobs, have no display, and helpers not even lines.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spice.messages import shown
from spice.progress import heard_by
from spice.reporting.pace import Pace, told

if TYPE_CHECKING:
    from spice.progress import Going

EVERY = 30.0  # seconds between two lines of what goes on: never more
FIRST = 10.0  # seconds until the first one, of what can be counted: what ends sooner is not told of
LOOK = 0.5  # seconds between two looks

log = logging.getLogger("spice.progress")


@dataclass
class Told:
    """Something that goes on, and how far it was when it was last told of."""

    name: str
    pace: Pace
    last: int | None = None

    @property
    def stands_still(self) -> bool:
        """Whether nothing was done since."""
        return self.last == self.pace.done


@dataclass
class Teller:
    """Hears of all that goes on, and says how far it is whenever that is due.

    ``finished`` has the seconds of each outermost thing that is over, by its name.
    """

    say: Callable[[str, str], None]
    clock: Callable[[], float] = time.monotonic
    stack: list[Told] = field(default_factory=list)
    finished: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0
    _patience: float = FIRST

    def begin(self, going: Going) -> None:
        """It starts now; with the outermost, silence does."""
        now = self.clock()
        if not self.stack:
            self._last, self._patience = now, FIRST
        name = going.name or (self.stack[-1].name if self.stack else "")
        self.stack.append(Told(name, Pace(going, now)))

    def end(self, going: Going) -> None:
        """It is over, and so is whatever has begun within it."""
        places = [i for i, each in enumerate(self.stack) if each.pace.going is going]
        if places == [0]:
            self.finished[self.stack[0].name] = self.clock() - self.stack[0].pace.began
        for place in places:
            del self.stack[place:]

    def look(self, now: float) -> None:
        """Note how far everything is, and tell it if that is due."""
        stack = list(self.stack)  # the run goes on while another thread looks
        for each in stack:
            each.pace.look(now)
        counts = any(each.pace.going.unit for each in stack)
        patience = self._patience if counts else EVERY
        if stack and now + 2 * LOOK - self._last > patience:  # the next look may come late
            self._last, self._patience = now, EVERY
            for each in _worth_telling(stack):
                self.say(each.name, told(each.pace, now, each.stands_still))
                each.last = each.pace.done


def _worth_telling(stack: Sequence[Told]) -> list[Told]:
    """The outermost that counts, which tells of the whole; what is within it, if it stands still.

    Where nothing counts, it is only said of the innermost that it goes on.
    """
    counting = [each for each in stack if each.pace.going.unit]
    if not counting:
        return [stack[-1]]
    first, last = counting[0], counting[-1]
    moves = first.pace.done > (first.last or first.pace.going.before[0])
    return [first] if moves or first is last else [first, last]


def _say(name: str, message: str) -> None:
    log.info("%-11s %s", shown(name), shown(message))


#: what shows a teller's findings while it is entered; it gives what brings them up to date
Display = Callable[[Teller], AbstractContextManager[Callable[[], None]]]


@contextmanager
def telling(
    display: Display | None = None, say: Callable[[str, str], None] = _say
) -> Iterator[Teller]:
    """Tell how far what runs within is, by ``say`` and on a ``display``."""
    teller, over = Teller(say), threading.Event()
    with display(teller) if display else nullcontext(_nothing) as refresh:
        thread = threading.Thread(
            target=_watch, args=(teller, refresh, over), name="progress", daemon=True
        )
        thread.start()
        try:
            with heard_by(teller):
                yield teller
        finally:
            over.set()
            thread.join(timeout=2 * LOOK)


def _watch(teller: Teller, refresh: Callable[[], None], over: threading.Event) -> None:
    while not over.wait(LOOK):
        teller.look(time.monotonic())
        refresh()


def _nothing() -> None:
    """Without a display."""
