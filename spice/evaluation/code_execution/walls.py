"""The walls that a process puts around itself before it runs generated code.

Limits and the filter of system calls have to stand. Landlock and a user namespace are put up where
the kernel has them, and named where they are missing. A process namespace would add nothing: no
process can be started, signalled or looked into as it is.
"""

import ctypes
import functools
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from typing import Any

from spice.evaluation.code_execution.system_calls import filter_program

SIGKILL = 9
_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 3, 4, 22, 38  # prctl(2)
_CLONE_NEWUSER = 0x10000000
_CAPABILITIES = 0x20080522  # _LINUX_CAPABILITY_VERSION_3

# landlock(7); the system calls have these numbers on every architecture
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # version: how many rights over files it knows, all refused
_TCP, _OUTSIDE = 0b11, 0b11  # from version 4 binding and connecting; from 6 sockets, signals

# What programs may read beside the interpreter's library: what a compiled module is linked with,
# and what the C library looks up.
SYSTEM_FILES = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
    "/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom",
)  # fmt: skip

NO_LANDLOCK = "no Landlock: a program can read what the user can read"
NO_NAMESPACE = "no user namespace: only Landlock and lacking rights hide other processes"
NO_WALL = (
    "neither Landlock nor a user namespace: a program can read what the user can read, "
    "and look into his other processes"
)

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


class _Beneath(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def lock_in(cpu_s: int, memory_mb: int, parent: int) -> str:
    """Give up for good what generated code has no business with.

    Returns what this kernel has no wall against, or nothing. Raises OSError where a wall that has
    to stand cannot be put up.
    """
    import resource  # which Windows lacks

    for limit, value in (
        (resource.RLIMIT_CPU, (cpu_s, cpu_s + 1)),
        (resource.RLIMIT_AS, (memory_mb << 20,) * 2),
        (resource.RLIMIT_FSIZE, (0, 0)),
        (resource.RLIMIT_NOFILE, (64, 64)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        resource.setrlimit(limit, value)
    no_new_privileges()
    alone = _libc.unshare(_CLONE_NEWUSER) == 0
    confined = _confine((*readable(), os.getcwd()))
    _drop_capabilities()
    _prctl(_PDEATHSIG, SIGKILL)  # no program outlives a killed run
    if os.getppid() != parent:
        raise OSError("the parent process is gone")
    filter_calls(filter_program(os.uname().machine))
    if confined:
        return "" if alone else NO_NAMESPACE
    return NO_LANDLOCK if alone else NO_WALL


@functools.cache
def readable() -> set[str]:
    """Folders and files that programs may read: the interpreter's library, and what is linked."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    library = {sysconfig.get_path(name) for name in names}
    return {*library, *site.getsitepackages(), os.path.join(sys.base_prefix, "lib"), *SYSTEM_FILES}


def no_new_privileges() -> None:
    """What Landlock and filters ask of a process that is not root."""
    _prctl(_NO_NEW_PRIVS, 1)


def hide() -> None:
    """Let no process without special rights look into this one and those that it forks."""
    _prctl(_SET_DUMPABLE, 0)


def hidden() -> bool:
    """Whether other processes of the user are kept from looking into this one."""
    return bool(_libc.prctl(_GET_DUMPABLE) != 1)


def unhide() -> None:
    """The opposite of :func:`hide`."""
    _prctl(_SET_DUMPABLE, 1)


def _confine(paths: tuple[str, ...]) -> bool:
    """Leave nothing of the file system to open but reading under some paths; False without it."""
    version = _call(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    rights = (1 << _RIGHTS[max(known for known in _RIGHTS if known <= version)]) - 1
    handled = [rights, *[_TCP] * (version >= 4), *[_OUTSIDE] * (version >= 6)]
    attributes = (ctypes.c_uint64 * len(handled))(*handled)
    rules = _call(_CREATE_RULESET, attributes, ctypes.sizeof(attributes), 0)
    if rules < 0:
        return False
    for path in paths:
        _allow_reading(rules, path)
    restricted = _call(_RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return restricted


def _allow_reading(rules: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this machine
    rights = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    beneath = 1  # LANDLOCK_RULE_PATH_BENEATH
    done = _call(_ADD_RULE, rules, beneath, ctypes.byref(_Beneath(rights, place)), 0)
    os.close(place)
    if done:
        raise OSError(ctypes.get_errno(), f"Landlock refuses a rule for {path}")


def _drop_capabilities() -> None:
    """Root without capabilities is a user like others; a new namespace gave all of them, too."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def filter_calls(program: Sequence[tuple[int, int, int, int]]) -> None:
    """Put every later system call of this process and its children through a BPF program.

    Raises:
        OSError: the kernel has no such filters.
    """
    steps = (_Instruction * len(program))(*(_Instruction(*step) for step in program))
    by_filter = 2  # SECCOMP_MODE_FILTER
    _prctl(_SECCOMP, by_filter, ctypes.byref(_Program(len(program), steps)))


def _call(number: int, *arguments: object) -> int:
    filled = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *filled))


def _prctl(*arguments: object) -> None:
    filled = [a if not isinstance(a, int) else ctypes.c_ulong(a) for a in arguments]
    if _libc.prctl(*filled, *[ctypes.c_ulong(0)] * (5 - len(filled))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
