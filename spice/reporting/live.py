"""The live display of a run on a terminal: its steps, what goes on within one, and the sweep."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from spice.messages import shown
from spice.reporting.pace import duration, so_far, speed

if TYPE_CHECKING:
    from spice.reporting.telling import Teller, Told

BAR, SHORT, NARROW = 24, 8, 100  # columns of a bar, and of one where there are fewer than so many
MARKS = {"done": "✓", "running": "▸", "waiting": " "}
PLAIN = {"done": "+", "running": ">", "waiting": " "}  # where a terminal lacks the signs


class Steps:
    """What is drawn: ``steps`` by name, as they are ``teller``'s, and a line on the sweep."""

    def __init__(self, teller: Teller, steps: Sequence[str], sweep: str, console: Console) -> None:
        self.teller = teller
        self.steps = steps
        self.sweep = sweep
        self.console = console
        self.marks = MARKS if console.encoding.lower().startswith("utf") else PLAIN

    def __rich__(self) -> Group:
        stack, now = list(self.teller.stack), self.teller.clock()
        table = Table.grid(*(Column(no_wrap=True) for _ in range(6)), padding=(0, 1))
        bar = BAR if self.console.width >= NARROW else SHORT
        within = stack[0].name if stack else None
        for name in self.steps:
            if name == within:
                self._row(table, "running", name, duration(now - stack[0].pace.began), "bold")
                names = Counter(each.name for each in stack)
                for each in stack[1:]:
                    if each.pace.going.unit or names[each.name] == 1:
                        table.add_row("", *_cells(each, now, bar))
            elif name in self.teller.finished:
                self._row(table, "done", name, duration(self.teller.finished[name]), "green")
            else:
                self._row(table, "waiting", name, "", "dim")
        sweep = [Text(shown(self.sweep), overflow="ellipsis", no_wrap=True)] if self.sweep else []
        return Group(table, *sweep)

    def _row(self, table: Table, state: str, name: str, took: str, style: str) -> None:
        table.add_row(Text(self.marks[state], style), Text(name, style), Text(took, "dim"))


def _cells(each: Told, now: float, bar: int) -> Iterator[Any]:
    """Name, bar, count, rate and the time left, as far as there are any."""
    pace, going = each.pace, each.pace.going
    yield Text(f"  {shown(each.name)}")
    if not going.unit:
        yield Text(duration(now - pace.began), "dim")
        return
    rate, left = pace.rate(now), pace.left(now)
    yield ProgressBar(going.total, pace.done, width=bar) if going.total else Text("")
    yield Text(so_far(pace))
    yield Text(speed(rate, going.unit) if rate is not None else "")
    yield Text(f"{duration(left)} left" if left is not None else "")


class Above:
    """A terminal's stream that writes above the display; a whole line or several at a time."""

    def __init__(self, console: Console, stream: IO[str]) -> None:
        self.console = console
        self.stream = stream

    def write(self, text: str) -> int:
        """Write what is meant for the stream; the terminal breaks lines, nothing else does."""
        self.console.print(Text(text.removesuffix("\n")), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """It is written at once."""


def fits(stream: IO[str]) -> bool:
    """Whether a stream is a terminal on which lines can be drawn anew."""
    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def display(
    teller: Teller, steps: Sequence[str], sweep: str, stream: IO[str] | None = None
) -> Iterator[Callable[[], None]]:
    """Show the steps below all that is written; gives what draws them anew.

    What is logged to a terminal goes above them, but for the lines that they stand in for.
    """
    console = Console(file=stream or sys.stdout, highlight=False)
    seen = Steps(teller, steps, sweep, console)
    drawn = Live(
        seen,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stderr=sys.stderr.isatty(),  # in a file it stays
    )
    with drawn, _logged_above(console):
        console.show_cursor(True)  # a process that is ended here could not bring it back
        yield drawn.refresh


@contextmanager
def _logged_above(console: Console) -> Iterator[None]:
    """Let handlers that log to a terminal do so above the display."""

    def others(record: logging.LogRecord) -> bool:
        return record.name != "spice.progress"

    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler
                and h.stream.isatty()]  # fmt: skip
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.addFilter(others)
        handler.setStream(Above(console, handler.stream))
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.removeFilter(others)
            handler.setStream(stream)
