"""Generated programs that try to get out, to hang, or to pass without being right."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from experiments.faults.cases import Tally
from spice.evaluation.code_execution.pass_at_k import Outcome, run_program, sandbox_available

LIMIT = 3.0  # seconds of computing that a program has
WALL = 3  # times as long may it take by the clock, sleep included
SLACK = 4.0  # seconds more that a busy machine may take to end it
RIGHT = "def add(a, b):\n    return a + b\nassert add(2, 3) == 5\n"
WRONG = "\nassert 1 == 2\n"

#: each ends in an assertion that fails, so that passing is always a cheat
HOSTILE = {
    "leaves early": "import sys; sys.exit(0)",
    "leaves earlier": "import os; os._exit(0)",
    "raises SystemExit from a thread": "import threading\n"
    "threading.Thread(target=lambda: __import__('os')._exit(0)).start()",
    "leaves at exit": "import atexit, os; atexit.register(os._exit, 0)",
    "turns assertions off": "import sys; sys.flags = None; __debug__",
    "swallows its end": "import sys\nsys.excepthook = lambda *a: None",
    "loops": "while True: pass",
    "sleeps": "import time; time.sleep(3600)",
    "sleeps through alarms": "import signal, time\n"
    "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 14, 15, 24)]\n"
    "while True: time.sleep(1)",
    "stops itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "forks": "import os\nwhile True: os.fork()",
    "starts a program": "import subprocess; subprocess.run(['sleep', '60'])",
    "leaves its session": "import os; os.setsid(); os.fork()",
    "eats memory": "x = []\nwhile True: x.append(bytearray(10**7))",
    "eats the stack": "def f(): return f()\nimport sys; sys.setrecursionlimit(10**9); f()",
    "fills the disk": "with open('/tmp/filled', 'wb') as f:\n    while True: f.write(bytes(10**6))",
    "floods its output": "while True: print('x' * 10**6, flush=True)",
    "floods every descriptor": "import os\nfor fd in range(3, 64):\n    try:\n"
    "        os.write(fd, b'passed' * 10**5)\n    except OSError: pass",
    "closes every descriptor": "import os; os.closerange(0, 256)",
    "calls home": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
    "listens": "import socket; socket.socket().bind(('0.0.0.0', 0))",
    "deletes": "import os, sys; os.remove(sys.executable)",
    "writes beside itself": "open('note.txt', 'w').write('x')",
    "reads the password file": "print(open('/etc/passwd').read()); assert False",
    "reads the home folder": "import os; os.listdir(os.path.expanduser('~')); assert False",
    "reads its parent's environment": "import os\n"
    "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "reads its parent's memory": "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "writes to its parent's pipes": "import os\nfor p in (os.getppid(), os.getpid()):\n"
    "    for fd in range(64):\n        try:\n"
    "            with open(f'/proc/{p}/fd/{fd}', 'wb', 0) as f: f.write(b'passed')\n"
    "        except OSError: pass",
    "walks the frames for a secret": "import sys, os\nframe = sys._getframe()\nfound = []\n"
    "while frame:\n    found += [v for v in [*frame.f_locals.values(), *frame.f_globals.values()]"
    " if isinstance(v, bytes)]\n    frame = frame.f_back\n"
    "for fd in range(3, 32):\n    for secret in found:\n        try: os.write(fd, secret)\n"
    "        except OSError: pass\nos._exit(0)",
    "searches memory for a secret": "import gc, os\nfound = [v for v in gc.get_objects() if "
    "isinstance(v, dict)]\nsecrets = {v for d in found for v in d.values() if isinstance(v, bytes)"
    " and 4 <= len(v) <= 128}\nfor fd in range(3, 32):\n    for s in secrets:\n"
    "        try: os.write(fd, s)\n        except OSError: pass\nos._exit(0)",
    "traces its neighbour": "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
    "assert libc.ptrace(16, os.getppid(), 0, 0) == 0\nos._exit(0)",
    "makes a namespace": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "has a strange exception": "class E(BaseException):\n    def __str__(self): raise self\n"
    "    __repr__ = __str__\nraise E()",
    "has a long exception": "raise ValueError('x' * 10**8)",
    "kills everything": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "kills its parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
}


def hostile(name: str, tally: Tally) -> None:
    """One case, beside right programs that have to pass meanwhile."""
    with ThreadPoolExecutor(4) as threads:
        beside = [threads.submit(run_program, RIGHT, LIMIT) for _ in range(2)]
        began = time.monotonic()
        outcome: Outcome = run_program(HOSTILE[name] + WRONG, LIMIT)
        took = time.monotonic() - began
        right = [future.result() for future in beside]
    problems = [
        f"passed ({outcome.why})" if outcome.passed else "",
        f"took {took:.1f} s" if took > WALL * LIMIT + SLACK else "",
        "" if all(r.passed for r in right) else f"right programs beside it: {right}",
        "wrote a file" if _written() else "",
        f"left {left} behind" if (left := _left()) else "",
    ]
    tally.tell("program", name, problems)


def available() -> str | None:
    """Why programs are not run here, or None."""
    return sandbox_available()


def _left() -> int:
    """Programs that outlive their time: what starters, our own children, have for children.

    Those of cases beside this one are there as well, but not for longer than a program may be.
    """
    own = psutil.Process(os.getpid())
    _, alive = psutil.wait_procs(
        {*own.children(recursive=True)} - {*own.children()}, timeout=WALL * LIMIT + SLACK
    )
    return len(alive)


def _written() -> bool:
    places = (Path(tempfile.gettempdir()) / "filled", Path("note.txt"))
    return any(place.exists() for place in places)
