"""Locks: one holder at a time, whoever is killed, suspended, or on another machine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spice.storage import locks
from spice.storage.locks import Holder, Lock, Watch, held

ROOT = Path(__file__).parents[2]


def nobody(watch: Watch) -> None:
    """Told for whom one waits, and not interested."""


def refused(watch: Watch) -> None:
    raise InterruptedError(str(watch.holder))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "stage.locked"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hearts that beat and are given up within moments."""
    for name, value in {"INTERVAL": 0.05, "LIMIT": 0.6, "WATCHED": 0.3, "REPEAT": 0.2}.items():
        monkeypatch.setattr(locks, name, value)
    monkeypatch.setattr(locks, "PAUSES", (0.01, 0.03))


def taken(place: Path, age: float = 0.0, **facts: Any) -> Holder:
    """A lock that somebody else has, whose heart beat some seconds ago and beats no more."""
    holder = replace(Holder.me(), **facts)
    place.mkdir()
    file = place / holder.name
    file.touch()
    os.utime(file, (time.time() - age,) * 2)
    return holder


ELSEWHERE = {"host": "node17", "machine": "another"}


def test_a_lock_has_one_holder_and_leaves_nothing(place: Path) -> None:
    with held(place, nobody) as lock:
        assert not lock.lost
        with pytest.raises(InterruptedError, match=rf"host .*, pid {os.getpid()}, since 20"):
            Lock(place).acquire(refused)
        assert [path.name for path in place.iterdir()] == [lock.me.name]
    assert lock.lost
    with held(place, refused):
        pass
    assert list(place.parent.iterdir()) == []


def test_a_name_tells_all_of_its_holder() -> None:
    me = Holder.me()
    assert Holder.named(me.name) == me
    assert len(me.name) < 255
    assert Holder.named(".nfs0001") is None
    assert me.near
    assert not me.gone


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), held(tmp_path / "file/stage.locked", nobody):
        pass


@pytest.mark.parametrize("facts", [{"pid": 2**22 + 1}, {"born": "1"}], ids=["dead", "a new one"])
def test_a_process_of_this_machine_that_is_no_more_is_taken_over_at_once(
    place: Path, facts: dict[str, Any]
) -> None:
    dead = taken(place, **facts)
    lock = Lock(place)
    assert lock.acquire(refused) == dead
    lock.release()
    assert list(place.parent.iterdir()) == []


def test_a_killed_child_that_nobody_has_waited_for_is_no_more(place: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    holder = taken(place, pid=child.pid, born=str(locks._born(child.pid)))
    assert not holder.gone
    child.kill()
    until = time.monotonic() + 10
    while not holder.gone:
        assert time.monotonic() < until
    child.wait()
    assert holder.gone


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("age", "least"), [(1000.0, 0.3), (0.0, 0.6)], ids=["old", "fresh"])
def test_another_machines_heart_that_has_stopped_is_taken_over(
    place: Path, age: float, least: float
) -> None:
    dead, began = taken(place, age, **ELSEWHERE), time.monotonic()
    assert Lock(place).acquire(nobody) == dead
    assert least <= time.monotonic() - began < least + 5


@pytest.mark.usefixtures("hasty")
def test_another_machines_heart_that_beats_is_waited_for(place: Path) -> None:
    """Even where that machine's clock is hours late: hearts are heard by the file system's."""
    holder, told = taken(place, **ELSEWHERE), []
    file = place / holder.name

    def beat() -> None:
        for i in range(30):
            time.sleep(0.05)
            os.utime(file, (time.time() - 7200 + i,) * 2)
        file.unlink()

    heart = threading.Thread(target=beat)
    heart.start()
    waits: list[Watch] = []
    tell = locks.telling("stage", told.append)

    def waiting(watch: Watch) -> None:
        waits.append(watch)
        tell(watch)

    lock = Lock(place)
    assert lock.acquire(waiting) is None
    heart.join()
    lock.release()
    assert waits[-1].beats
    assert told[0] == f"waiting for stage: {holder}"
    assert "host node17, pid" in told[0]
    assert 3 <= len(told) <= 9  # once, and again every now and then


@pytest.mark.usefixtures("hasty")
def test_of_many_who_wait_for_a_dead_one_a_single_one_takes_over(place: Path) -> None:
    dead = taken(place, 1000.0, **ELSEWHERE)
    within, most, before = [0], [0], []

    def work() -> None:
        lock = Lock(place)
        before.append(lock.acquire(nobody))
        within[0] += 1
        most[0] = max(most[0], within[0])
        time.sleep(0.01)
        within[0] -= 1
        lock.release()

    crowd = [threading.Thread(target=work) for _ in range(12)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert most == [1]
    assert sorted(before, key=str) == sorted([dead, *[None] * 11], key=str)
    assert list(place.parent.iterdir()) == []


@pytest.mark.usefixtures("hasty")
def test_what_a_late_process_does_harms_nobody(place: Path) -> None:
    """It was suspended, taken over, and its successor has given the lock on to a third."""
    late = Lock(place)
    late.acquire(nobody)
    late._ended.set()  # suspended: its heart stands still
    second = Lock(place)
    assert second.acquire(nobody) == late.me
    assert late.lost
    late.release()
    assert not second.lost
    second.release()
    with held(place, nobody) as third:
        late.release()
        assert not third.lost
    assert list(place.parent.iterdir()) == []


# -- processes that are killed, suspended and interrupted ------------------------------------

CROWD = """
import os, random, sys, time
from pathlib import Path
from spice.storage.locks import held
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
draw, log = random.Random(seed), os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def tell(word):
    os.write(log, f"{os.getpid()} {word}\\n".encode())
while True:
    with held(folder / "place/x.locked", lambda watch: None):
        tell("in")
        for _ in range(4):
            time.sleep(draw.uniform(0, 0.004))
            tell("still")
        tell("out")
    time.sleep(draw.uniform(0, 0.003))
"""


def begun(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    running = [begun(CROWD, tmp_path, seed) for seed in range(8)]
    yield running
    for one in running:
        one.kill()
        one.communicate()


def test_no_two_hold_a_lock_at_once_though_some_are_killed(
    tmp_path: Path, crowd: list[subprocess.Popen[str]]
) -> None:
    draw, log = random.Random(0), tmp_path / "log"
    until = time.monotonic() + 60

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    def later(more: int) -> None:
        """When so many words more were told."""
        goal = len(lines()) + more
        while len(lines()) < goal:
            assert time.monotonic() < until, "nobody goes on"
            time.sleep(0.001)

    later(60)
    for seed in range(12):
        later(draw.randint(1, 30))
        pid = int(lines()[-1].split()[0])  # likely to be within
        one = next(i for i, process in enumerate(crowd) if process.pid == pid)
        crowd[one].send_signal(signal.SIGKILL)
        crowd[one].communicate()
        crowd[one] = begun(CROWD, tmp_path, 100 + seed)
    later(200)
    for process in crowd:
        assert process.poll() is None, process.communicate()
    holder = None
    for line in lines():
        pid, word = line.split()
        if word == "in":
            holder = pid
        assert pid == holder, f"{pid} was {word} while {holder} held the lock"
    for process in crowd:
        process.kill()
        process.communicate()
    with held(tmp_path / "place/x.locked", nobody):
        pass
    assert list((tmp_path / "place").iterdir()) == []


WAITS = """
import sys
from pathlib import Path
from spice import stopping
from spice.storage.locks import held, telling
say = lambda told: print(told, flush=True)
with stopping.listening(), held(Path(sys.argv[1]), telling("stage", say)):
    say("mine")
"""


def test_who_waits_says_for_whom_and_is_interrupted_at_once(place: Path) -> None:
    with held(place, nobody):
        waiting = begun(WAITS, place)
        assert waiting.stdout
        assert f"pid {os.getpid()}, since" in waiting.stdout.readline()
        began = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        waiting.communicate()
        assert (waiting.returncode, time.monotonic() - began < 1.5) == (130, True)
    assert list(place.parent.iterdir()) == []


SUSPENDED = """
import os, sys, time
from pathlib import Path
from spice.storage import locks
from spice.storage.stages import Stages
locks.INTERVAL, locks.LIMIT, locks.WATCHED = 0.1, 1.0, 0.5
def build(partial):
    print("builds", flush=True)
    until = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < until:
        time.sleep(0.02)
        (partial / "result").write_text(str(os.getpid()))
done = Stages(Path(sys.argv[1]), lambda *told: print(*told, flush=True)).run("s", {}, build)
print(done.reused, (done.folder / "result").read_text(), flush=True)
"""


def test_who_was_suspended_and_taken_over_publishes_nothing_and_takes_what_is_there(
    tmp_path: Path,
) -> None:
    late = begun(SUSPENDED, tmp_path, 4)
    assert late.stdout
    assert late.stdout.readline() == "builds\n"
    late.send_signal(signal.SIGSTOP)
    second = begun(SUSPENDED, tmp_path, 1)
    assert second.stdout
    while second.stdout.readline() != "builds\n":
        assert second.poll() is None
    late.send_signal(signal.SIGCONT)
    for process, reused in ((second, False), (late, True)):
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        assert out.splitlines()[-1] == f"{reused} {second.pid}"
    assert "held up for so long that another run has taken over" in out
    assert [path.suffix for path in (tmp_path / "s").iterdir()] == [""]
