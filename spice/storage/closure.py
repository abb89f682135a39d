"""The code behind a stage: what its entry points import, read off the sources.

An edit to the greedy makes selections anew, and an edit to a figure makes nothing anew. Imports in
functions count; those for type checkers alone do not, for they never run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import spice
from spice.storage.provenance import PACKAGES, versions

LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def code_version(*modules: str) -> str:
    """The package's version and a hash of all own sources that some modules run through.

    The name of a package stands for all modules in it. Own is what lies in the entry points'
    packages and in no library's folder.

    Raises:
        ModuleNotFoundError: one of the modules does not exist.
    """
    total = hashlib.sha256()
    for name, path in sorted(_closure(modules)[0].items()):
        total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{spice.__version__}+{total.hexdigest()[:12]}"


def library_versions(*modules: str) -> dict[str, str]:
    """The versions of the libraries that some modules run through and that decide a result."""
    imported = _closure(modules)[1]
    found = versions()
    return {PACKAGES[name]: found[PACKAGES[name]] for name in sorted(imported & PACKAGES.keys())}


def _closure(modules: tuple[str, ...]) -> tuple[dict[str, Path], set[str]]:
    """Own modules by name with their files, and the names of the others' packages."""
    waiting = [name for module in modules for name in _members(module)]
    own = {name.partition(".")[0] for name in waiting}
    found: dict[str, Path] = {}
    others: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        if "." not in name and path.name == "__init__.py":
            continue  # a package's face imports what its users want, not what the module runs
        for imported in _imports(path, path.stat().st_mtime_ns):
            root = imported.partition(".")[0]
            mine = root in own or _is_local(root)
            waiting += [imported] if mine else []
            others |= set() if mine else {root}
    return found, others


def _members(module: str) -> list[str]:
    """The module, or all those in it if it is a package."""
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(module)
    if path.name != "__init__.py":
        return [module]
    files = (file.relative_to(path.parent) for file in path.parent.rglob("*.py"))
    parts = [file.with_suffix("").parts for file in files]
    return [".".join([module, *(p for p in part if p != "__init__")]) for part in parts]


def _file(name: str) -> Path | None:
    """A module's source; found without importing the packages above it."""
    root, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):  # such as __main__, which has none
        return None
    if spec is None or spec.origin is None:
        return None
    if not below:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        base = Path(folder).joinpath(*below)
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


@functools.cache
def _is_local(root: str) -> bool:
    """Whether a module lies in no library's folder, so that its user may edit it any time."""
    path = _file(root)
    return path is not None and path.is_file() and not any(map(path.is_relative_to, LIBRARIES))


@functools.cache
def _imports(path: Path, changed: int) -> tuple[str, ...]:
    """All that a source imports, names imported from a module included; they may be modules."""
    if path.suffix != ".py":
        return ()
    return tuple(_names(ast.parse(path.read_bytes())))


def _names(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _names(child)
