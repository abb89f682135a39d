"""Signals: what asks a run to stop is obeyed within seconds, in every step, with a plain exit code.

=========  ================================================  ====
signal     from whom                                         exit
=========  ================================================  ====
SIGINT     somebody at the keyboard                          130
SIGTERM    a cluster or a shell that ends the job            143
SIGUSR1    a cluster that will run the job again             75
SIGUSR2    the same, of other clusters                       75
=========  ================================================  ====

130 and 143 are a shell's 128 + n; 75 is EX_TEMPFAIL of sysexits.h, "try again". What a run has
published stays, so the same command goes on from there. Training saves its last step on top.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

PREEMPTED = 75
CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
if sys.platform != "win32":
    CODES |= {signal.SIGUSR1: PREEMPTED, signal.SIGUSR2: PREEMPTED}
#: seconds until a run that does not get to stop by itself is ended; a cluster that will run it
#: again gives it time to save, as in ``--signal=USR1@90``
PATIENCE = dict.fromkeys(CODES.values(), 1.7) | {PREEMPTED: 60.0}
LINES = {
    130: "interrupted; the same command goes on from what is finished",
    143: "terminated; the same command goes on from what is finished",
    PREEMPTED: "preempted; the same command, queued again, goes on from what is saved",
}


class Stopped(BaseException):
    """A signal asked the run to stop; not an Exception, so that nobody takes it for a failure."""


class _State:
    """Of this process: what was asked, whether it may be obeyed at once, and what was so before."""

    asked: int | None = None
    number = 0  # of the signal that asked
    deferred = False
    leaving = False
    before: dict[int, Any] | None = None


_last = threading.Lock()  # of the two threads that may end the process, one does


def asked() -> int | None:
    """The exit code that a signal has asked for, if one has."""
    return _State.asked


def at_start(program: str) -> None:
    """Obey signals while ``program`` is still being imported, when there is nothing to save.

    Only where that is the command line: who imports it has handlers of his own.
    """
    if Path(program).parts[-2:] == ("spice", "__main__.py") or Path(program).stem == "spice":
        for number in CODES:
            signal.signal(number, lambda number, frame: leave(CODES[number]))


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait for :func:`obey`, for code that is only whole between its steps.

    A run that does not come to it in time is ended all the same.

    Raises:
        Stopped: what ran within has come to its end, and a signal asks to go no further.
    """
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
    obey()


def obey() -> None:
    """Stop here, if a signal has asked for it.

    Raises:
        Stopped: one has.
    """
    if _State.asked is not None:
        raise Stopped


@contextmanager
def listening(job: bool = False) -> Iterator[None]:
    """Obey signals in what runs within, which does not return once it was asked to stop.

    A ``job`` of a sweep may run in a process of a launcher's, which listens for itself: one that is
    preempted is handed back to it, to be queued again. Where the process listens already, it does.
    """
    if _State.before or threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.before = {number: signal.signal(number, _hear) for number in CODES}
    os.register_at_fork(after_in_child=_forget)
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    woken = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    told, sys.unraisablehook = sys.unraisablehook, _unraisable
    threading.Thread(target=_watch, args=(ears,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if _State.asked is not None:  # whatever a library has made of the exception
            if job and _State.asked == PREEMPTED and callable(_State.before[_State.number]):
                _hand_back(mouth)
            leave(_State.asked)
        _forget()
        signal.set_wakeup_fd(woken)
        sys.unraisablehook = told
        mouth.close()


def hear_first() -> None:
    """Take the signals back from a library that has put its own handlers in front."""
    for number in CODES if _State.before else ():
        signal.signal(number, _hear)


def leave(code: int) -> NoReturn:
    """End this process and all that it started, now: what is on disk is whole at any moment."""
    _State.leaving = True
    if threading.current_thread() is threading.main_thread():  # the other waits for no lock
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    _last.acquire()
    with suppress(OSError):
        os.write(2, f"spice: {LINES[code]}\n".encode())
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(code)


def _hear(number: int, frame: FrameType | None) -> None:
    """In the main thread: stop, or note that it was asked.

    More of the same changes nothing, as schedulers tell every process and some of them twice;
    whoever ends a run that was to be queued again has the last word.
    """
    first = _State.asked is None
    if _State.leaving or not (first or _State.asked == PREEMPTED):
        return
    _State.asked, _State.number = CODES[number], number
    if first and not _State.deferred:
        raise Stopped


def _watch(ears: socket.socket) -> None:
    """In a thread of its own: the main one may be in a library's loop that hears no signal.

    Python writes a signal's number to the socket at once, and calls :func:`_hear` when it can.
    """
    code, end = None, float("inf")
    while (left := end - time.monotonic()) > 0:
        ears.settimeout(None if code is None else left)
        try:
            heard = ears.recv(1)
        except TimeoutError:
            break
        if not heard:
            return
        if heard[0] in CODES and code in (None, PREEMPTED):
            code = CODES[heard[0]]
            end = min(end, time.monotonic() + PATIENCE[code])
    assert code is not None
    leave(code)


def _hand_back(mouth: socket.socket) -> None:
    """Let the process's owner, who listened before, answer what has asked this job to stop."""
    assert _State.before is not None
    owner, number = _State.before[_State.number], _State.number
    _forget()
    mouth.close()  # which ends the watch
    _State.asked = None
    owner(number, None)


def _forget() -> None:
    """In a forked child, which would wake its parent, and when it is over: as it was before."""
    if _State.before is None:
        return
    signal.set_wakeup_fd(-1)
    for number, handler in _State.before.items():
        signal.signal(number, handler)
    _State.before = None


def _unraisable(told: Any) -> None:
    """A stop that Python lost in a destructor is not worth a traceback: the watch sees to it."""
    if not isinstance(told.exc_value, Stopped):
        sys.__unraisablehook__(told)
