"""Rates and the time that is left, from what a loop has done at the moments it was looked at."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spice.progress import Going

WINDOW = 60.0  # seconds that a rate is measured over, or more:
FEWEST = 3  # advances that it is measured over at least
UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))  # that a rate is told per


class Mark(NamedTuple):
    """When an advance was seen, and what was done by then at which cost."""

    time: float
    done: int
    spent: float


class Pace:
    """How fast something goes on, over the last minute.

    What is under way since the last advance counts for no more than an average advance until it has
    taken longer than one: from then on it makes the rate smaller.
    """

    def __init__(self, going: Going, now: float) -> None:
        self.going = going
        self.marks = deque([Mark(now, 0, 0.0)])
        self.began = now

    def look(self, now: float) -> None:
        """Note what was done since the last look."""
        mark = Mark(now, *self.going.at)
        if mark[1:] == self.marks[-1][1:]:
            return
        self.marks.append(mark)
        while len(self.marks) > FEWEST + 1 and self.marks[1].time <= now - WINDOW:
            self.marks.popleft()

    @property
    def done(self) -> int:
        """Units that were done at the last look, those of an earlier run among them."""
        return self.going.before[0] + self.marks[-1].done

    def since_advance(self, now: float) -> float:
        """Seconds since something was done."""
        return now - self.marks[-1].time

    def _span(self, now: float) -> float:
        """Seconds that the advances of the window took; 0 where there was none yet."""
        first, last, advances = self.marks[0].time, self.marks[-1].time, len(self.marks) - 1
        return max(last - first, (now - first) * advances / (advances + 1)) if advances else 0.0

    def rate(self, now: float) -> float | None:
        """Units a second, None where that cannot be told yet, or says nothing."""
        span, units = self._span(now), self.marks[-1].done - self.marks[0].done
        known = self.going.work != 0
        return units / span if known and span > 0 and units > 0 else None

    def left(self, now: float) -> float | None:
        """Seconds to the end, None where that cannot be told; never less than none."""
        span, spent = self._span(now), self.marks[-1].spent - self.marks[0].spent
        if not self.going.work or span <= 0 or spent <= 0:
            return None
        to_come = self.going.work - self.going.before[1] - self.marks[-1].spent
        under_way = min(self.since_advance(now), span / (len(self.marks) - 1))
        return max(to_come * span / spent - under_way, 0.0)


def told(pace: Pace, now: float, stands_still: bool = False) -> str:
    """How far it is, its rate and the time left, as far as they are known."""
    going = pace.going
    if not going.unit:
        return f"still going on, {duration(now - pace.began)} so far"
    parts = [so_far(pace)]
    if stands_still:
        parts = [f"still at {parts[0]}, for {duration(pace.since_advance(now))}"]
    if (rate := pace.rate(now)) is not None:
        parts.append(speed(rate, going.unit))
    if (left := pace.left(now)) is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def so_far(pace: Pace) -> str:
    """What is done, of what."""
    going, done = pace.going, pace.done
    if going.total is None:
        return f"{done:,} {going.unit}"
    share = min(100 * done // max(going.total, 1), 100)
    return f"{done:,} of {going.total:,} {going.unit} ({share} %)"


def speed(rate: float, unit: str) -> str:
    """A rate in units a second, minute or hour, so that it is a number to read.

    >>> speed(0.02, "rows")
    '1.2 rows/min'
    """
    seconds, name = next((per for per in UNITS if rate * per[0] >= 1), UNITS[-1])
    number = rate * seconds
    return f"{number:,.0f} {unit}/{name}" if number >= 10 else f"{number:.1f} {unit}/{name}"


def duration(seconds: float) -> str:
    """Seconds as one says them.

    >>> [duration(s) for s in (0.2, 59.7, 250, 5000, 200_000)]
    ['0 s', '1 min', '4 min', '1 h 23 min', '2 d 8 h']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
