"""How far a run is, told in time: by a clock of the test's, in a file, and on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import orders
import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import on_a_terminal, screen

from spice.distributed import team
from spice.progress import Going, heard_by, progress
from spice.reporting.pace import Pace
from spice.reporting.telling import EVERY, FIRST, LOOK, Teller


class Story:
    """A teller whose clock only moves as it is told to, looked at as often as a thread would."""

    def __init__(self) -> None:
        self.now = 0.0
        self.next = LOOK / 2
        self.lines: list[tuple[float, str, str]] = []
        self.teller = Teller(self._say, lambda: self.now)
        self.left: list[tuple[float, float, int]] = []  # time, seconds left as told, and done

    def _say(self, name: str, told: str) -> None:
        self.lines.append((self.now, name, told))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.next <= end:
            self.now, self.next = self.next, self.next + LOOK
            self._look()
        self.now = end

    def _look(self) -> None:
        self.teller.look(self.now)
        for each in self.teller.stack[:1]:
            left = each.pace.left(self.now)
            if left is not None:
                self.left.append((self.now, left, each.pace.done))

    def go(self, costs: Sequence[float], known: bool = True) -> None:
        """One unit after the other, each of so many seconds."""
        with heard_by(self.teller):
            work = sum(costs) if known else None
            with progress("gradients", len(costs), "rows", work) as tell:
                for seconds in costs:
                    self.wait(seconds)
                    tell(1, seconds if known else None)

    def silences(self) -> Iterator[float]:
        """Seconds without a word, from the start on and up to the end."""
        times = [0.0, *(time for time, _, _ in self.lines), self.now]
        return (after - before for before, after in pairwise(times))


costs = st.lists(st.floats(0.01, 200.0), min_size=1, max_size=30)


@given(costs, st.booleans())
def test_nobody_waits_for_more_than_half_a_minute_and_hardly_for_less(
    costs: list[float], known: bool
) -> None:
    story = Story()
    story.go(costs, known)
    assert max(story.silences()) <= EVERY
    times = [time for time, _, _ in story.lines]
    assert all(b - a > EVERY - 2 * LOOK for a, b in pairwise(times))
    assert all(time > FIRST - 2 * LOOK for time in times)


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=3))
def test_what_ends_quickly_is_not_told_of(costs: list[float]) -> None:
    story = Story()
    for _ in range(4):
        story.go(costs)
    assert story.lines == []


@given(st.lists(st.floats(1.0, 5.0), min_size=15, max_size=60))
def test_where_the_cost_is_known_the_time_left_is_what_is_left(costs: list[float]) -> None:
    """But for what nobody sees: how far the batch is that is under way."""
    story = Story()
    story.go(costs)
    for time, left, done in story.left:
        if done >= 10:
            assert left == pytest.approx(story.now - time, rel=0.5, abs=3 * max(costs))


def test_rows_that_get_cheaper_are_weighed_by_their_tokens() -> None:
    story = Story()
    tokens = [float(count) for count in range(60, 0, -1)]
    story.go(tokens)
    later = [(time, left) for time, left, _ in story.left if time > 300]
    assert all(left == pytest.approx(story.now - time, abs=62) for time, left in later)
    middle = [abs(left - (story.now - time)) for time, left in later]
    assert sum(middle) / len(middle) < 15  # of half an hour; nobody sees within a batch
    naive = Story()
    naive.go(tokens, known=False)
    early = next(left for time, left, _ in naive.left if time > 300)
    assert early > 1.4 * (naive.now - 300)


@given(costs)
def test_without_it_the_time_left_is_never_below_zero_or_beyond_the_slowest(
    costs: list[float],
) -> None:
    story = Story()
    story.go(costs, known=False)
    slowest = max(costs) + 2 * LOOK
    assert all(0 <= left <= (len(costs) - done) * slowest for _, left, done in story.left)


def test_a_line_has_how_far_it_is_its_rate_and_the_time_left() -> None:
    story = Story()
    story.go([1 / 128] * 20_000)
    assert story.lines[:2] == [
        (9.25, "gradients", "1,183 of 20,000 rows (5 %), 128 rows/s, 2 min left"),
        (38.75, "gradients", "4,959 of 20,000 rows (24 %), 128 rows/s, 2 min left"),
    ]


def test_a_single_long_batch_is_still_told_of() -> None:
    story = Story()
    story.go([4.0, 4.0, 100.0])
    told = [line for _, _, line in story.lines]
    assert told[0].startswith("2 of 3 rows (66 %), ")
    assert told[1].startswith("still at 2 of 3 rows (66 %), for 30 s")
    assert all(line.startswith("still at 2 of 3 rows") for line in told[1:])
    rates = [float(line.split("%), for ")[1].split(", ")[1].split()[0]) for line in told[1:]]
    assert rates == sorted(rates, reverse=True)  # a batch that takes long slows it down
    assert rates[0] > rates[-1]


def test_what_an_earlier_run_did_is_counted_and_says_nothing_of_the_rate() -> None:
    story = Story()
    with heard_by(story.teller), progress("finetune", 10_000, "rows") as tell:
        tell.skip(9_000)
        for _ in range(100):
            story.wait(0.1)
            tell(2)
    assert story.lines == [(9.25, "finetune", "9,184 of 10,000 rows (91 %), 20 rows/s, 41 s left")]


def test_the_whole_is_told_and_where_it_stands_still_what_it_is_at() -> None:
    story = Story()
    with heard_by(story.teller), progress("scores", 2, "benchmarks", 0) as whole:
        for name in ("gsm8k", "mmlu"):
            with progress(name, 1600, "questions") as part:
                for _ in range(1600):
                    story.wait(1 / 32)
                    part()
            whole()
    assert [line[1:] for line in story.lines] == [
        ("scores", "0 of 2 benchmarks (0 %)"),
        ("gsm8k", "295 of 1,600 questions (18 %), 32 questions/s, 41 s left"),
        ("scores", "still at 0 of 2 benchmarks (0 %), for 39 s"),
        ("gsm8k", "1,239 of 1,600 questions (77 %), 32 questions/s, 11 s left"),
        ("scores", "1 of 2 benchmarks (50 %)"),
        ("scores", "still at 1 of 2 benchmarks (50 %), for 48 s"),
        ("mmlu", "1,527 of 1,600 questions (95 %), 32 questions/s, 2 s left"),
    ]


def test_what_nobody_counts_is_told_to_go_on() -> None:
    story = Story()
    with heard_by(story.teller), progress("selection"):
        story.wait(65)
    assert story.lines == [
        (29.25, "selection", "still going on, 29 s so far"),
        (58.75, "selection", "still going on, 59 s so far"),
    ]


def test_many_short_loops_in_one_step_are_one_long_step() -> None:
    story = Story()
    with heard_by(story.teller), progress("scores"):
        for _ in range(40):
            with progress("", 10, "questions") as tell:
                for _ in range(10):
                    story.wait(0.5)
                    tell()
    assert {name for _, name, _ in story.lines} == {"scores"}
    assert max(story.silences()) <= EVERY


def test_what_an_error_leaves_open_is_over_with_what_it_was_in() -> None:
    story = Story()
    outer = Going("outer", None, "", None)
    story.teller.begin(outer)
    story.teller.begin(Going("lost", 3, "rows", None))
    story.teller.end(outer)
    assert story.teller.stack == []


def test_a_pace_keeps_what_it_needs_and_no_more() -> None:
    going = Going("x", None, "rows", None)
    pace = Pace(going, 0.0)
    for second in range(1, 5_000):
        going(3)
        pace.look(float(second))
    assert len(pace.marks) < 100
    assert pace.rate(4_999.0) == pytest.approx(3.0)


SLOW = """
import logging, sys, time
from spice.progress import progress
from spice.reporting import telling
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
telling.EVERY, telling.FIRST, telling.LOOK = 0.5, 0.3, 0.05
kept = telling.telling()
kept.__enter__()
with progress("quick", 3, "rows") as tell:
    tell(3)
with progress("gradients", 3, "rows") as tell:
    time.sleep(0.1)
    tell()
    time.sleep(2.0)  # one long batch
    raise SystemExit(7)  # nothing is closed
"""


def test_a_slow_step_tells_a_file_and_keeps_no_process_alive(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        run = subprocess.run([sys.executable, "-c", SLOW], stdout=file, timeout=60, check=False)
    told = log.read_text(encoding="utf-8").splitlines()
    assert run.returncode == 7
    assert re.fullmatch(r"gradients   1 of 3 rows \(33 %\), .* left", told[0])
    assert 3 <= len(told) <= 6
    assert all(
        line.startswith("gradients   still at 1 of 3 rows (33 %), for ") for line in told[1:]
    )


def test_helpers_hear_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    story = Story()
    team.ask_for(2, False)
    try:
        with heard_by(story.teller):
            assert team.everywhere(orders.heard) == [True, False]
    finally:
        team.ask_for(1, False)
        team.disband()
    assert capfd.readouterr().out == ""


DRAWN = """
import logging, sys, time
from functools import partial
from spice.messages import Shown, say
from spice.progress import progress
from spice.reporting import live, telling
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Shown())
logging.basicConfig(level=logging.INFO, handlers=[handler, logging.FileHandler(sys.argv[1])])
telling.EVERY, telling.FIRST, telling.LOOK = 0.4, 0.2, 0.05
drawn = partial(live.display, steps=["pool", "signals", "scores"], sweep="sweep: 1 of 4 jobs")
with telling.telling(drawn):
    with progress("pool"):
        say("pool", "40 rows " + "x" * 150)
    with progress("signals"), progress("gradients", 8, "rows") as tell:
        for number in range(4):
            time.sleep(0.2)
            tell()
            say("memory", f"[red]batch {number}[/red]")
        print("by somebody else")
        time.sleep(0.2)
        print("MIDDLE", file=open(sys.argv[2], "w"))
        time.sleep(0.3)
say("done", "all of it")
"""


def test_a_terminal_has_the_steps_below_its_lines_and_nothing_of_them_at_the_end(
    tmp_path: Path,
) -> None:
    log, middle = tmp_path / "run.log", tmp_path / "middle"
    code, during, end = on_a_terminal(
        [sys.executable, "-c", DRAWN, str(log), str(middle)], until=middle, columns=100
    )
    assert code == 0
    lines = [
        f"pool        40 rows {'x' * 80}", "x" * 70,
        *(f"memory      [red]batch {number}[/red]" for number in range(4)), "by somebody else",
    ]  # fmt: skip
    assert screen(end, 100) == [*lines, "done        all of it"]
    seen = screen(during, 100)
    assert seen[: len(lines)] == lines
    pool, signals, gradients, scores, sweep = seen[len(lines) :]
    assert re.fullmatch(r"✓ pool +0 s", pool)
    assert re.fullmatch(r"▸ signals +\d s", signals)
    counts = r" +gradients +━+╺?━+ 4 of 8 rows \(50 %\) \d\.\d rows/s +\d s left"
    assert re.fullmatch(counts, gradients)
    assert (scores, sweep) == ("  scores", "sweep: 1 of 4 jobs")
    assert not end.endswith("\x1b[?25l")
    assert "rows (" not in "".join(screen(end, 100))
    assert "gradients   " in log.read_text(encoding="utf-8")  # where the display is not


def test_a_process_that_is_ended_leaves_a_terminal_with_its_cursor(tmp_path: Path) -> None:
    there = tmp_path / "there"
    ended = DRAWN.replace('print("MIDDLE"', 'import os; print("MIDDLE"').replace(
        "time.sleep(0.3)", "time.sleep(0.3); os._exit(9)"
    )
    code, _, end = on_a_terminal(
        [sys.executable, "-c", ended, str(tmp_path / "log"), str(there)], until=there, columns=100
    )
    assert code == 9
    assert end.rindex("\x1b[?25h") > end.rindex("\x1b[?25l")


@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_only_a_terminal_that_can_is_drawn_on(kind: str, tmp_path: Path) -> None:
    asked = "import sys; from spice.reporting.live import fits; print(fits(sys.stdout))"
    command = [sys.executable, "-c", asked]
    _, _, end = on_a_terminal(command, columns=80, TERM=kind)
    assert screen(end, 80) == [str(kind == "xterm")]
    plain = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert plain.stdout == "False\n"
