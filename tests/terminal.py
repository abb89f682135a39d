"""A terminal for tests: what a program writes to one, and what is to be seen on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

QUIET = 0.03  # seconds without a sign
SIGNS = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def on_a_terminal(
    command: list[str], *, columns: int, until: Path | None = None, **environment: str
) -> tuple[int, str, str]:
    """The exit code, what was written until a file was there, and all that was written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    told = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    told |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
    run = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=told)
    os.close(theirs)
    written, before, begun = b"", None, time.monotonic()
    while time.monotonic() < begun + 300:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        written += part
        if before is None and until is not None and until.exists():
            # What was written earlier may still be on its way, a part at a time.
            before = None if select.select([ours], [], [], QUIET)[0] else len(written)
    os.close(ours)
    text = written[:before].decode("utf-8", "replace"), written.decode("utf-8", "replace")
    return run.wait(60), *text


def screen(written: str, columns: int) -> list[str]:
    """The lines that are to be seen, without the empty ones: of what rich uses, and no more."""
    lines, row, column = [""], 0, 0
    for number, kind, moves, text in SIGNS.findall(written):
        if kind == "A":
            row = max(row - int(number or 1), 0)
        elif kind == "K":
            lines[row] = ""
        elif moves == "\r":
            column = 0
        elif moves == "\n":
            row += 1
        for sign in text:
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row].ljust(column)[:column] + sign + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines if line.strip()]
