"""The far side of generated code: a child is forked per program, and locks itself in.

A child's standard input holds one line ``cpu_seconds memory_mb bytes``, the program of so many
bytes, and its test. Its standard output is the report, a socket that a number waits in. The number
comes back where both have run to their end, with what the kernel has no wall against behind it;
where the walls could not be put up it comes back with the reason; else the program's error does.

Nothing of torch's size is imported here, so that a fork costs a few milliseconds.
"""

import contextlib
import itertools
import os
import signal
import socket
import sys
import types

from spice.evaluation.code_execution.walls import hide, lock_in, readable

NUMBER = 32  # bytes


def run(parent: int) -> None:
    """Read a program and its test, run them, report; never returns."""
    header, _, text = sys.stdin.buffer.read().partition(b"\n")
    cpu_s, memory_mb, length = map(int, header.split())
    report = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    try:
        missing = lock_in(cpu_s, memory_mb, parent)
    except OSError as error:
        os.write(report, os.read(report, NUMBER) + f" unavailable: {error}".encode())
        os._exit(0)
    _judge(text[:length], text[length:], report, missing.encode())


def _judge(program: bytes, test: bytes, report: int, missing: bytes) -> None:
    """Run a program and its test in one namespace, and send the number if both came to an end.

    The program may walk these frames and replace whatever it finds by name. So the number, the
    compiled test and the call that sends lie on the interpreter's own stack, where nothing has a
    name, before the program's first instruction.
    """
    write, read, leave = os.write, os.read, os._exit
    # A module of its own, so that dataclasses and the like find one; never __main__.
    module = types.ModuleType("program")
    sys.modules["program"] = module
    _refuse_tracing()
    names = itertools.repeat(module.__dict__)
    try:
        write(
            report,
            (
                read(report, NUMBER) + missing,
                *map(exec, (_compiled(program, "<program>"), _compiled(test, "<test>")), names),
            )[0],  # type: ignore[arg-type]
        )
    except BaseException as error:
        write(report, _told(error).encode(errors="replace"))
    finally:
        leave(0)


def _compiled(text: bytes, name: str) -> types.CodeType:
    return compile(text, name, "exec", dont_inherit=True)


def _refuse_tracing() -> None:
    """Close for good what steps over lines of a test, or finds objects that have no name."""

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in {
            "sys.settrace", "sys.setprofile", "sys.monitoring.register_callback",
            "gc.get_objects", "gc.get_referrers", "gc.get_referents",
        }:  # fmt: skip
            raise PermissionError(f"{event} is refused")

    sys.addaudithook(hook)


def _told(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"[:200].removesuffix(": ")
    except BaseException:  # the error's own text may raise
        return name


def serve() -> None:
    """Fork a child for each program that is asked for, until the asking side is gone.

    A request is the name of an empty folder with two open files, the program and the report. The
    next message, or the end of the asking side, ends the child; the answer is its wait status.
    """
    hide()  # and with it every child, from those beside it
    readable()  # found once, for all of them
    asking = socket.socket(fileno=os.dup(0))
    while True:
        folder, files, _, _ = socket.recv_fds(asking, 4096, 2)
        if not folder:
            return
        starter, child = os.getpid(), os.fork()
        if not child:
            os.setsid()
            os.chdir(folder)
            for number, file in enumerate(files):
                os.dup2(file, number)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            run(starter)
        for file in files:
            os.close(file)
        asking.recv(1)
        # Before it is waited for, while its number cannot belong to anyone else. It may not lead
        # its group yet.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        asking.send(str(status).encode())
