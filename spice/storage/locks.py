"""Locks that hold on shared file systems, and that outlive no holder.

A lock is a folder with one file in it. The file's name says who holds the lock; its time of change
is the holder's heartbeat. ``flock`` is local to a machine on some shared file systems and absent on
others; this needs no more than what all of them do at once or not at all:

==========  ==================================================================================
taken       a folder with one's file is renamed to the lock's place: refused if it holds a file
given back  one's file is deleted, then the folder if it is empty
taken over  the other's file is renamed to one's own: of several who try one succeeds
==========  ==================================================================================

Names of files are never used twice. So whatever a process does late, after others took it for dead,
finds nothing to act on.

A holder is taken over at once if it ran on this machine and is no more, and otherwise if its
heartbeat is older than :data:`LIMIT` by the file system's clock, the only one that all machines
share, and stood still for as long as :data:`WATCHED`, since all hearts stop while a server is away.
The heart is a thread, which beats on in any code that lets go of Python's lock at times, as numpy,
torch and files do; twelve beats may be missed, more than a client of NFS keeps old times (60 s).
A holder that was suspended for longer finds its lock lost: it must publish nothing then, see
:attr:`Lock.lost`. What it publishes all the same must be what the other makes, or refused.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import psutil

from spice import stopping
from spice.storage.files import short_hash

INTERVAL = 10.0  # seconds between two beats
LIMIT = 120.0  # age of a heart that has stopped
WATCHED = 25.0  # for which it must have been seen to stand still
REPEAT = 300.0  # after which it is told again for whom one waits
PAUSES = (0.02, 1.0)  # between two looks: the first, growing to the last
HELD = (errno.ENOTEMPTY, errno.EEXIST)


@dataclass(frozen=True)
class Holder:
    """Who has a lock or waits for it; ``born`` tells a process from a later one of its number."""

    host: str
    pid: int
    born: str
    machine: str
    since: int
    nonce: str

    @classmethod
    def me(cls) -> Holder:
        """This process, from now on."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())[:100]
        born = _born(os.getpid()) or "unknown"
        return cls(host, os.getpid(), born, _machine(), int(time.time()), secrets.token_hex(6))

    @classmethod
    def named(cls, name: str) -> Holder | None:
        """Whom a file's name tells of; None if it is no holder's."""
        parts = name.split(",")
        if len(parts) != 6 or not (parts[1].isdigit() and parts[4].isdigit()):
            return None
        return cls(parts[0], int(parts[1]), parts[2], parts[3], int(parts[4]), parts[5])

    @property
    def name(self) -> str:
        """Its file's, on which no other is ever called."""
        return ",".join(map(str, astuple(self)))

    @property
    def near(self) -> bool:
        """Whether it runs on this machine, where one can see if it still does."""
        return self.machine == _machine()

    @property
    def gone(self) -> bool:
        """Whether it is certain that its process is no more."""
        return self.near and _born(self.pid) not in (self.born, "unknown")

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M:%S")
        return f"host {self.host}, pid {self.pid}, since {since}"


class Watch:
    """What one who waits has seen of the heart of the one for whom he waits."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        #: whether the heart was seen to beat
        self.beats = False
        self.waited = 0.0
        self._began = self._seen = time.monotonic()
        self._beat: int | None = None

    def look(self, file: Path, clock: Path) -> bool:
        """Whether the heart has stopped; ``clock`` is a file of one's own beside the holder's.

        Raises:
            FileNotFoundError: the holder is another by now.
        """
        now = time.monotonic()
        beat = _changed(file)
        if beat != self._beat:
            self.beats |= self._beat is not None
            self._beat, self._seen = beat, now
        self.waited = now - self._began
        if now - self._seen < WATCHED:
            return False
        os.utime(clock)
        return _changed(clock) - beat > LIMIT * 1e9


Told = Callable[[Watch], None]


class Lock:
    """The lock of a place, which it is not asked for twice."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.me = Holder.me()
        self._claim = place.with_name(f"{place.name}-{self.me.nonce}")
        self._ended = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether another has taken it over."""
        return not (self.place / self.me.name).exists()

    def acquire(self, told: Told) -> Holder | None:
        """Wait until it is this one's; the holder from whom it was taken over, if it was.

        ``told`` hears of the holder at every look, and may raise to wait no longer.

        Raises:
            OSError: the place cannot be written.
        """
        self.place.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._claim.mkdir()
            (self._claim / self.me.name).touch()
            before = self._waited_for(told)
        finally:
            _removed(self._claim, self.me.name)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return before

    def release(self) -> None:
        """Give it back, with what others who are no more have left beside it."""
        self._ended.set()
        _removed(self.place, self.me.name)
        for claim in self.place.parent.glob(f"{self.place.name}-*"):
            if (holder := _holder(claim)) and holder.gone:
                _removed(claim, holder.name)

    def _waited_for(self, told: Told) -> Holder | None:
        watch, pause = None, PAUSES[0]
        while not self._taken():
            stopping.obey()
            holder = _holder(self.place)
            if holder is None:
                with suppress(OSError):  # an empty folder may be in the way
                    self.place.rmdir()
                time.sleep(PAUSES[0])
                continue
            watch = watch if watch and watch.holder == holder else Watch(holder)
            with suppress(FileNotFoundError):
                stopped = watch.look(self.place / holder.name, self._claim / self.me.name)
                if stopped or holder.gone:
                    self._take_over(holder)
                    return holder
                told(watch)
                time.sleep(pause := min(1.5 * pause, PAUSES[1]))
        return None

    def _taken(self) -> bool:
        try:
            self._claim.rename(self.place)
        except OSError as error:
            if not self.lost:  # the server's answer got lost, and the client has asked again
                return True
            if error.errno in HELD or self.place.is_dir():
                return False
            raise
        return True

    def _take_over(self, holder: Holder) -> None:
        other = self.place / holder.name
        os.utime(other)  # so that nobody takes the new holder's heart for a stopped one
        other.rename(self.place / self.me.name)

    def _beat(self) -> None:
        beating = True
        while beating and not self._ended.is_set():
            try:
                os.utime(self.place / self.me.name)
            except FileNotFoundError:
                beating = False
            except OSError:  # the server is away: the next beat may reach it
                pass
            self._ended.wait(INTERVAL)


@contextmanager
def held(place: Path, told: Told) -> Iterator[Lock]:
    """Hold the lock of a place while the block runs.

    Raises:
        OSError: the place cannot be written.
    """
    lock = Lock(place)
    try:
        lock.acquire(told)
        yield lock
    finally:
        lock.release()


def telling(what: str, say: Callable[[str], None]) -> Told:
    """Say for whom one waits: at first, and again every few minutes."""
    last: tuple[Holder, float] | None = None

    def told(watch: Watch) -> None:
        nonlocal last
        if last is None or last[0] != watch.holder or watch.waited - last[1] > REPEAT:
            last = watch.holder, watch.waited
            say(f"waiting for {what}: {watch.holder}")

    return told


def _holder(folder: Path) -> Holder | None:
    try:
        return next((h for name in os.listdir(folder) if (h := Holder.named(name))), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _removed(folder: Path, name: str) -> None:
    """A file of a name that was never another's, and its folder if that held nothing else."""
    with suppress(OSError):
        (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def _changed(file: Path) -> int:
    """When a file was last changed; opened, since a client of NFS then asks the server."""
    handle = os.open(file, os.O_RDONLY)
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)


@cache
def _machine() -> str:
    """What tells where process numbers mean the same: the boot, and the container if it is one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, space = f"{psutil.boot_time():.0f}", ""
    return short_hash(f"{socket.gethostname()} {boot} {space}".encode())


def _born(pid: int) -> str | None:
    """When a process began, as a text to compare; None if there is none, or one that has ended.

    ``unknown`` where it is another user's, and none of one's business.
    """
    if not psutil.pid_exists(pid):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _born_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else fields[19]


def _born_elsewhere(pid: int) -> str | None:
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return "unknown"
