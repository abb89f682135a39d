"""Programs that mean harm: none gets out, none passes that is wrong, none outstays its time."""

# ruff: noqa: E501 -- a program is a line

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from spice.evaluation.code_execution import walls
from spice.evaluation.code_execution.pass_at_k import (
    Outcome,
    PassAtK,
    missing_walls,
    run_program,
    sandbox_available,
)

pytestmark = pytest.mark.skipif(
    sandbox_available() is not None, reason=f"no sandbox here: {sandbox_available()}"
)
confined = pytest.mark.skipif(
    "Landlock" in missing_walls(), reason=f"of this kernel: {missing_walls()}"
)

SECRET = "planted-secret"
FAMILY = """
import os
def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
"""

# ---- what is outside stays closed: each raises the error that says so

OUTSIDE = {
    "the user's files": "open(FILE)",
    "a file by its folder's descriptor": "os.open(NAME, 0, dir_fd=os.open(FOLDER, os.O_PATH))",
    "a listing of his folder": "os.listdir(FOLDER)",
    "a listing of /": "os.listdir('/')",
    "accounts": "open('/etc/passwd')",
    "the folder of temporary files": "os.listdir(os.path.dirname(os.getcwd()))",
    "the environment of the starter": "open(f'/proc/{os.getppid()}/environ')",
    "the environment of the asker": f"open('/proc/{os.getpid()}/environ')",
    "the memory of the asker": f"open('/proc/{os.getpid()}/mem', 'rb')",
    "the open files of the asker": f"os.listdir('/proc/{os.getpid()}/fd')",
    "the name of an open file of the asker": f"os.readlink('/proc/{os.getpid()}/fd/0')",
    "the files of the asker by its root": f"os.listdir('/proc/{os.getpid()}/root')",
    "its own memory as a file": "open('/proc/self/mem', 'rb')",
    "its own open files": "os.listdir('/proc/self/fd')",
    "a device": "open('/dev/zero', 'rb')",
    "a namespace with root's rights": "libc_call(272, 0x10000000)",
    "a rule that opens a folder": "libc_call(446, 3, 0)",
    "the asker's memory by a call": f"libc_call(310, {os.getpid()}, 0, 0, 0, 0, 0)",
    "the asker's descriptors by a call": f"libc_call(434, {os.getpid()}, 0)",
    "a trace of the asker": f"libc_call(101, 16, {os.getpid()}, 0, 0)",
}  # fmt: skip

CALLS = """
import ctypes, os
def libc_call(*numbers):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*(ctypes.c_long(number) for number in numbers)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""


@confined
@pytest.mark.parametrize("attempt", OUTSIDE)
def test_what_is_outside_stays_closed(attempt: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    names = f"FILE, FOLDER, NAME = {str(tmp_path / 'secret')!r}, {str(tmp_path)!r}, 'secret'\n"
    outcome = run_program(CALLS + names + OUTSIDE[attempt])
    assert outcome.why.startswith(("failed: PermissionError", "failed: FileNotFoundError"))


@confined
def test_the_library_and_an_empty_folder_are_all_that_can_be_opened() -> None:
    right = "import hashlib, os, numpy; assert os.listdir() == os.listdir('.') == []"
    assert run_program(right).passed


# ---- a wrong answer does not pass, whatever the program does to its runner

TEST = "def check(candidate):\n    assert candidate(2, 3) == 5\n\ncheck(add)\n"
WRONG = "add = lambda a, b: a * b\n"
FRAMES = """
import os, sys
def frames():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
def sent(value):
    for descriptor in range(1, 16):
        try: os.write(descriptor, value)
        except (OSError, TypeError): pass
"""

FORGERIES = {
    "every value of every frame is sent": (
        "for frame in frames():\n"
        "    for value in [*frame.f_locals.values()]:\n"
        "        if isinstance(value, bytes): sent(value)\n"
        "os._exit(0)"
    ),
    "every descriptor's content is sent": (
        "import select\n"
        "for n in range(16):\n"
        "    try:\n"
        "        if select.select([n], [], [], 0)[0]: sent(os.read(n, 64))\n"
        "    except (OSError, ValueError): pass\n"
        "os._exit(0)"
    ),
    "iterators of the runner are used up": (
        "for frame in frames():\n"
        "    for value in [*frame.f_locals.values()]:\n"
        "        if type(value).__name__ in ('map', 'repeat', 'list_iterator', 'generator'):\n"
        "            for _, _ in zip(range(9), value): pass"
    ),
    "names of the runner are bound anew": (
        "for frame in frames():\n"
        "    names = frame.f_locals if frame.f_code.co_name == '_judge' else {}\n"
        "    names.update(test=b'', codes=(), write=lambda *_: None)\n"
        "for name, module in [*sys.modules.items()]:\n"
        "    if name.startswith('spice') or name == '__main__': vars(module).clear()"
    ),
    "objects are looked for": "import gc; sent(b''.join(x for x in gc.get_objects() if type(x) is bytes))",
    "objects of a frame are looked for": "import gc; [sent(x) for f in frames() for x in gc.get_referents(f)]",
    "objects of a frame are looked for, errors aside": (
        "import gc\n"
        "try: [sent(x) for f in frames() for x in gc.get_referents(f)]\n"
        "except Exception: pass"
    ),
    "lines of the test are skipped": (
        "def trace(frame, event, _):\n"
        "    if event == 'line' and frame.f_code.co_name == 'check': frame.f_lineno += 1\n"
        "    return trace\n"
        "try: sys.settrace(trace)\n"
        "except PermissionError: pass"
    ),
    "lines are skipped from within": (
        "def add(a, b):\n"
        "    try: sys.settrace(lambda *_: None)\n"
        "    except PermissionError: pass\n"
        "    sys._getframe(1).f_trace = lambda frame, *_: setattr(frame, 'f_lineno', 3)\n"
        "    return a * b"
    ),
    "sys.exit": "sys.exit(0)",
    "exit at the first call": "add = lambda a, b: os._exit(0)",
    "SystemExit at the first call": "def add(a, b): raise SystemExit(0)",
    "an exit handler": "import atexit; atexit.register(os._exit, 0); sys.exit()",
    "a thread that leaves": "import threading, time; threading.Thread(target=os._exit, args=[0]).start(); time.sleep(9)",
    "a timer that leaves": "import signal, time; signal.signal(14, lambda *_: os._exit(0)); signal.setitimer(0, .01); time.sleep(9)",
    "an alarm that raises": "import signal\ndef late(*_): raise SystemExit(0)\nsignal.signal(14, late); signal.setitimer(0, .01)\nwhile True: pass",
    "no assertions": "import builtins; builtins.AssertionError = type('Fine', (BaseException,), {'__bool__': lambda _: False})",
    "other builtins": "import builtins; builtins.exec = builtins.compile = builtins.map = lambda *_: None",
    "another os": "import os; os.write = os._exit = os.read = print; sys.modules['os'] = None",
    "another check": "def check(candidate): pass\ncheck.__code__ = (lambda candidate: None).__code__",
    "the text ends in an open string": "text = '''",
    "the text ends in an open bracket": "text = [",
    "the text ends in a line that goes on": "text = 1 \\",
    "the text ends in a condition": "if False:",
    "a coding that hides what follows": "# coding: utf-7",
    "descriptors are closed": "os.closerange(0, 64)",
    "an error without text": "class E(Exception):\n    def __str__(self): raise self\nE.__name__ = ''\ndef add(a, b): raise E",
    "an error that cannot be encoded": "def add(a, b): raise ValueError('\\ud800' * 100)",
    "an error like a pass": "def add(a, b): raise type('passed', (Exception,), {})('passed')",
    "an error of no kind": "def add(a, b): raise BaseException",
    "a generator's end": "def add(a, b): raise GeneratorExit",
    "a finaliser": "class D:\n    def __del__(self): os._exit(0)\nd = D()",
    "deep recursion": "sys.setrecursionlimit(10**8)\ndef add(a, b): return add(a, b)",
    "stdout is the report": "sys.stdout = os.fdopen(3, 'w'); print('passed', flush=True)",
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_wrong_answer_does_not_pass(forgery: str) -> None:
    start = time.monotonic()
    program = WRONG + FRAMES + FORGERIES[forgery]
    outcome = run_program(program, timeout_s=1, test=TEST)
    assert not outcome.passed, outcome
    assert time.monotonic() - start < 6


def test_the_same_programs_pass_where_they_are_right() -> None:
    """What a wrong program is failed for is its answer, not that it plays with its runner."""
    kept = "add = lambda a, b: a + b\n"
    harmless = ("names of the runner are bound anew", "other builtins", "another check",
                "no assertions", "lines of the test are skipped", "a finaliser")  # fmt: skip
    for forgery in harmless:
        outcome = run_program(kept + FRAMES + FORGERIES[forgery] + "\n" + kept, test=TEST)
        assert outcome == Outcome(True, "passed"), forgery


def test_answers_that_equal_everything_are_the_tests_own_affair() -> None:
    """pass@k compares inside the program's process; the jail does not judge answers."""
    yes = "class Yes(int):\n    def __eq__(self, other): return True\nadd = lambda a, b: Yes()"
    assert run_program(yes, test=TEST).passed


# ---- none outstays its time, or takes more than its share

ENDLESS = {
    "every signal ignored": (
        "import signal\n"
        "for n in range(1, 65):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass"
    ),
    "sleep": "import time; time.sleep(1e6)",
    "an endless loop in C": "sum(range(10**18))",
    "a thread behind a wrong answer": "import threading, time; threading.Thread(target=time.sleep, args=[1e6]).start(); assert False",
    "a pipe that nobody writes": "import os; r, w = os.pipe(); os.read(r, 1)",
    "its own report": "import os; os.read(3, 1)",
    "an error whose text never ends": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "output without end": "while True: print('x' * 10**6)",
}  # fmt: skip
GREEDY = {
    "processes": "import os\nwhile True: os.fork()",
    "a process that outlives": "import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)",
    "a process stopped": "import signal; signal.raise_signal(signal.SIGSTOP)",
    "memory": "x = bytearray(100 << 30)",
    "an error of a gigabyte": "raise ValueError('x' * 2**30)",
    "disk": "open('x', 'w').write('x' * 2**30)",
    "disk without a name": "import tempfile; tempfile.TemporaryFile()",
    "shared memory": "from multiprocessing import shared_memory as s; s.SharedMemory('x', True, 4096)",
    "a flood of reports": "import os\nwhile True: os.write(3, b'x' * 4096)",
    "more time": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (999, 999))",
    "a higher rank": "import os; os.nice(-5)",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("program", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_ended(program: str) -> None:
    start = time.monotonic()
    assert not run_program(program, timeout_s=0.5).passed
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("program", GREEDY.values(), ids=GREEDY)
def test_what_takes_too_much_is_refused(program: str) -> None:
    start = time.monotonic()
    assert not run_program(program, timeout_s=1).passed
    assert time.monotonic() - start < 6


@pytest.mark.slow
def test_threads_without_number_are_ended_and_nothing_is_left() -> None:
    bomb = "import threading, time\nthreading.stack_size(32768)\nwhile True: threading.Thread(target=time.sleep, args=[99]).start()"
    assert not run_program(bomb, timeout_s=1).passed
    children = psutil.Process().children(recursive=True)
    assert not [c for c in children for d in c.children(recursive=True) if d.num_threads() > 1]


# ---- right programs beside wrong ones, on this kernel and on one that lacks walls

THIEF = """
import os, threading
def drain(descriptor):
    while os.read(descriptor, 4096): pass
for n in range(3, 200):
    try: opened = os.open(f"/proc/ASKER/fd/{n}", os.O_RDONLY)
    except OSError: continue
    threading.Thread(target=drain, args=[opened], daemon=True).start()
import time; time.sleep(0.6)
"""


def test_a_program_takes_no_reports_from_those_beside_it() -> None:
    honest = "import time; time.sleep(0.4)"
    programs = [THIEF.replace("ASKER", str(os.getpid())), honest, honest, honest]
    with ThreadPoolExecutor(4) as pool:
        assert [outcome.passed for outcome in pool.map(run_program, programs)][1:] == [True] * 3


# What a container does that knows nothing of Landlock, or forbids namespaces.
BENEATH = """
import json, os, platform, sys
from concurrent.futures import ThreadPoolExecutor
from spice.evaluation.code_execution import walls
from spice.evaluation.code_execution.pass_at_k import missing_walls, run_program, sandbox_available
unshare = {"x86_64": 272, "aarch64": 97}[platform.machine()]
numbers = {"landlock": 444, "namespaces": unshare}
steps = [(0x20, 0, 0, 0)]
for name in json.loads(sys.argv[1]):
    steps += [(0x15, 0, 1, numbers[name]), (0x06, 0, 0, 0x00050000 | 38)]
walls.no_new_privileges()
walls.filter_calls([*steps, (0x06, 0, 0, 0x7FFF0000)])
closed = ["environ", "mem", "maps", "fd/0"]
attempts = [f"open('/proc/{os.getpid()}/{name}', 'rb')" for name in closed]
thief, honest = sys.argv[2].replace("ASKER", str(os.getpid())), "import time; time.sleep(0.4)"
with ThreadPoolExecutor(4) as pool:
    beside = [outcome.passed for outcome in pool.map(run_program, [thief, honest, honest, honest])]
told = [sandbox_available(), missing_walls(), [run_program(a).why for a in attempts], beside[1:]]
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        (["landlock"], walls.NO_LANDLOCK),
        (["namespaces"], walls.NO_NAMESPACE),
        (["landlock", "namespaces"], walls.NO_WALL),
    ],
)
def test_a_kernel_that_lacks_walls_is_named_and_the_asker_stays_closed(
    lacking: list[str], named: str
) -> None:
    command = [sys.executable, "-c", BENEATH, json.dumps(lacking), THIEF]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    available, missing, whys, beside = json.loads(printed)
    assert available is None
    assert missing == named
    assert all("PermissionError" in why for why in whys), whys
    assert beside == [True] * 3


def test_this_process_can_be_looked_into_again_afterwards() -> None:
    before = walls.hidden()
    assert run_program(f"assert not {before}").passed is not before
    assert walls.hidden() is before


# ---- and so it is where many are counted


def test_hostile_candidates_count_as_wrong_and_right_ones_beside_them_pass() -> None:
    right = "def add(a, b): return a + b"
    wrong = [WRONG + FRAMES + FORGERIES[name] for name in ("sys.exit", "another os")]
    scores, details = PassAtK(4).compute([TEST], [[right, *wrong, right]], k=[1])
    assert scores == {"pass@1": 0.5}
    assert [outcome["passed"] for _, outcome in details[0]] == [True, False, False, True]
