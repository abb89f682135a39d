"""Pages that are written by what they describe: the library, the configuration, the command line.

A page holds a line ``<!-- write: NAME -->`` where its part goes.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any, is_typeddict

import yaml

from spice.gradients.agreement import Agreement
from spice.records import Selection

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
MARK = re.compile(r"<!-- write: (\w+) -->")
ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):<code>[~.]?(.*?)</code>")
KEY = re.compile(r"^( *)([\w@./ ]+):(?: (?!#)(.*?))?(?: +# (.*))?$")
NOTE = re.compile(r"^ *# ?(.*)$")
#: differences from other options, shown by their first line alone
DIFFERENCES = ("experiment", "scale")
#: which process runs the jobs of a sweep; Hydra's own group, with options of ours
LAUNCHERS = "hydra/launcher"
#: commands whose own help goes on the page of the command line
LIVE = ("spice.gradients.live",)  # reads gradients off a model that somebody has in hand
COMMANDS = ("report", "export", "diagnose", "check")


@dataclass(frozen=True)
class Key:
    """One key of a yaml file: its dotted name, its value as written, and what is said of it."""

    name: str
    value: str
    note: str


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write the parts that a page asks for."""
    parts = {
        "library": _library,
        "classes": _classes,
        "configuration": _configuration,
        "help": _help,
    }
    return MARK.sub(lambda match: "\n".join(parts[match[1]]()), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things by roles, which Markdown does not know."""
    return ROLE.sub(r"<code>\1</code>", html)


def _library() -> Iterator[str]:
    """All that ``import spice`` offers, and what those functions give back."""
    import spice

    homes = _homes()
    for name in spice.__all__:
        room = isinstance(getattr(spice, name), ModuleType)  # a package that is called, too
        yield f"::: {homes[name] if room else 'spice'}.{name}\n"


def _classes() -> Iterator[str]:
    """What the library's functions give back, and the options that they take."""
    found = [import_module(home) for home in dict.fromkeys(["spice.library", *_homes().values()])]
    taken = [value for module in found for value in vars(module).values() if isclass(value)]
    ours = [value for value in taken if value.__module__.startswith(("spice.library", *LIVE))]
    for value in dict.fromkeys([Selection, Agreement, *ours]):
        path = f"{value.__module__}.{value.__qualname__}"
        source = "true" if is_typeddict(value) else "false"  # whose fields are told by comments
        yield f"::: {path}\n    options:\n      show_source: {source}\n"


def _homes() -> dict[str, str]:
    """The modules that hold what ``import spice`` hands out, by its names."""
    tree = ast.parse((ROOT / "spice/__init__.py").read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.name: node.module for node in found for name in node.names
            if node.module and node.module.startswith("spice.")}  # fmt: skip


def _help() -> Iterator[str]:
    """What the command line says of itself."""
    from spice.__main__ import COMMANDS as KNOWN
    from spice.cli import help

    yield from ("```text", help.text(CONF), "```")
    for command in COMMANDS:
        if command in KNOWN and command != "check":
            yield from (f"\n### `spice {command}`\n", "```text", _told(command), "```")


def _told(command: str) -> str:
    """A command's own help."""
    code = f"from spice.__main__ import COMMANDS; COMMANDS[{command!r}](['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _configuration() -> Iterator[str]:
    """Every key of every group, by the comments that stand beside it."""
    yield "## `config.yaml`\n"
    yield from _table(keys(CONF / "config.yaml"))
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    groups = [group for entry in defaults if isinstance(entry, dict) for group in entry]
    for group in [*groups, LAUNCHERS]:
        if (CONF / group).is_dir():
            yield from _group(group)


def _group(group: str) -> Iterator[str]:
    dotted = group.replace("/", ".")
    yield f"\n## `{group}=`\n"
    for path in sorted((CONF / group).glob("*.yaml")):
        yield f"\n### `{group}={path.stem}`\n\n{_escaped(first_note(path))}\n"
        if group not in DIFFERENCES:
            yield from _table([replace(k, name=f"{dotted}.{k.name}") for k in keys(path)])


def _table(found: Sequence[Key]) -> Iterator[str]:
    if not found:
        return
    yield from ("| key | value | |", "|---|---|---|")
    for key in found:
        value = f"`{key.value}`" if key.value else ""
        yield f"| `{key.name}` | {value.replace('|', chr(92) + '|')} | {_escaped(key.note)} |"


def _escaped(text: str) -> str:
    """As it stands in a table: signs that Markdown would read, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [part if part.startswith("`") else re.sub(r"([|*_<>\[\]{}])", r"\\\1", part)
             for part in parts]  # fmt: skip
    return "".join(plain)


def first_note(path: Path) -> str:
    """The sentence that says what an option is."""
    return next(iter(opening(path)), "")


def opening(path: Path) -> list[str]:
    """The comments in front of the first key, without Hydra's package line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        note = NOTE.match(line)
        if not note:
            break
        found += [] if note[1].startswith("@package") else [note[1]]
    return found


def keys(path: Path) -> list[Key]:
    """The keys of a yaml file in their order, but for Hydra's own and the class behind them.

    What is said of a key stands behind it, and goes on below in lines that begin small; or it
    stands above it.
    """
    found: list[Key] = []
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    behind = False
    for line in path.read_text(encoding="utf-8").splitlines()[len(opening(path)) :]:
        if note := NOTE.match(line):
            if behind and note[1][:1].islower():
                found[-1] = replace(found[-1], note=f"{found[-1].note} {note[1]}")
            else:
                above.append(note[1])
        elif match := KEY.match(line):
            indent, name, value, told = len(match[1]), match[2], match[3] or "", match[4] or ""
            parents = [parent for parent in parents if parent[0] < indent] + [(indent, name)]
            dotted = ".".join(name for _, name in parents)
            found.append(Key(dotted, value, " ".join(filter(None, [*above, told]))))
            above, behind = [], bool(told)
        elif line.strip().startswith("-") and found:
            item = line.strip()[1:].partition(" # ")[0].strip()
            found[-1] = replace(found[-1], value=f"{found[-1].value} {item}".strip())
    return [key for key in found if _shown(key)]


def _shown(key: Key) -> bool:
    parts = key.name.split(".")
    return parts[0] not in ("defaults", "hydra") and "_target_" not in parts
