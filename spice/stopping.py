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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
PREEMPTED = 75
if sys.platform != "win32":
    CODES |= {signal.SIGUSR1: PREEMPTED, signal.SIGUSR2: PREEMPTED}
#: seconds until a run that does not get to stop by itself is ended; a cluster that will run it
#: again gives it time to save, as in ``--signal=USR1@90``
PATIENCE = dict.fromkeys(CODES.values(), 1.8) | {PREEMPTED: 60.0}
LINES = {
    130: "interrupted; the same command goes on from what is finished",
    143: "terminated; the same command goes on from what is finished",
    PREEMPTED: "preempted; the same command, queued again, goes on from what is saved",
}


class Stopped(BaseException):
    """A signal asked the run to stop; not an Exception, so that nobody takes it for a failure."""

    def __init__(self, code: int) -> None:
        super().__init__(LINES[code])
        self.code = code


class _State:
    """Of this process: what was asked, and whether it may be obeyed at once."""

    asked: int | None = None
    deferred = False


def asked() -> int | None:
    """The exit code that a signal has asked for, if one has."""
    return _State.asked


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait for :func:`obey`, for code that is only whole between its steps.

    A run that does not come to it in time is ended all the same.
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
        raise Stopped(_State.asked)


@contextmanager
def listening() -> Iterator[None]:
    """Obey signals in what runs within, which does not return once it was asked to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _hear) for number in CODES}
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    woken = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ears,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if _State.asked is not None:
            leave(_State.asked)
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        mouth.close()


def leave(code: int) -> None:
    """End this process and all that it started, now: what is on disk is whole at any moment."""
    print(f"spice: {LINES[code]}", file=sys.stderr)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    _end_children()
    os._exit(code)


def _hear(number: int, frame: FrameType | None) -> None:
    """In the main thread: stop, or note that it was asked; who asks twice is obeyed at once."""
    code = CODES[signal.Signals(number)]
    if _State.asked is not None:
        leave(code)
    _State.asked = code
    if not _State.deferred:
        raise Stopped(code)


def _watch(ears: socket.socket) -> None:
    """In a thread of its own: the main one may be in a library's loop that hears no signal.

    Python's own handler writes a signal's number to the socket before anything else.
    """
    while heard := ears.recv(1):
        number = heard[0]
        if number in set(CODES):
            code = CODES[signal.Signals(number)]
            ears.settimeout(PATIENCE[code])
            with suppress(TimeoutError):
                while (again := ears.recv(1)) and again[0] not in set(CODES):
                    pass
                if not again:
                    return
            leave(code)
    ears.close()


def _end_children() -> None:
    import psutil  # keeps it out of start-up

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
