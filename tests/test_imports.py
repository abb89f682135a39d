"""The house: each room imports only from rooms below it, and data goes down alone."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "spice"
FILES = sorted(PACKAGE.rglob("*.py"))
#: from the ground up; floors of the same number know nothing of each other
ROOMS = (
    "errors", "consent", "values", "records", "messages", "stopping", "progress", "distributed",
    "storage", "data",
    "models", "evaluation", "sandbox",
    "submodular", "training", "gradients", "signals", "selectors", "schedules", "library",
    "reporting", "pipeline", "cli", "__main__",
)  # fmt: skip
#: the library's face hands out what a room above the ground has
FACE = PACKAGE / "__init__.py"
HEAVY = {
    "torch", "pytorch_lightning", "transformers", "peft", "lm_eval", "datasets", "wandb",
    "matplotlib",
}  # fmt: skip
#: numpy and what else a run needs, which `spice --help` can do without
RUNS = (
    "spice.pipeline.run", "spice.pipeline.check", "spice.pipeline.diagnose",
    "spice.pipeline.export", "spice.pipeline.report",
)  # fmt: skip
OURS = 30  # imports of our own in functions, all told


def room(module: str) -> str:
    return module.split(".")[1]


def home(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Modules that are imported while the program runs, and whether a function does it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{name.name}", inside) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, inside) for name in node.names)
        yield from imports(node, inside or isinstance(node, ast.FunctionDef))


def ours(path: Path) -> list[tuple[str, bool]]:
    found = imports(ast.parse(path.read_text(encoding="utf-8")))
    return [(module, inside) for module, inside in found if module.startswith("spice.")]


@pytest.mark.parametrize("path", [p for p in FILES if p != FACE], ids=lambda p: str(p)[-40:])
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    here = ROOMS.index(home(path))
    above = [module for module, _ in ours(path) if module != "spice.__version__"
             and ROOMS.index(room(module)) > here]  # fmt: skip
    assert not above


@functools.cache
def is_heavy(module: str) -> bool:
    """Whether importing it brings in what start-up can do without."""
    path = source(module)
    if path is None:
        return module.split(".")[0] in HEAVY
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(not inside and is_heavy(found) for found, inside in imports(tree))


def source(module: str) -> Path | None:
    """Our own file that a dotted name stands for, be it of a module or of something in it."""
    if not module.startswith("spice."):
        return None
    base = PACKAGE.parent.joinpath(*module.split("."))
    places = (base.with_suffix(".py"), base / "__init__.py", base.parent.with_suffix(".py"),
              base.parent / "__init__.py")  # fmt: skip
    return next((path for path in places if path.is_file()), None)


@pytest.mark.parametrize("path", [p for p in FILES if p != FACE], ids=lambda p: str(p)[-40:])
def test_a_function_imports_of_ours_only_what_is_heavy_and_its_file_says_so(path: Path) -> None:
    late = [module for module, inside in ours(path) if inside]
    assert not [m for m in late if not (is_heavy(m) or m.rpartition(".")[0] in RUNS)]
    assert not late or "start-up" in path.read_text(encoding="utf-8")


def test_few_functions_import_what_is_ours() -> None:
    late = {(path.name, module.rpartition(".")[0]) for path in FILES if path != FACE
            for module, inside in ours(path) if inside}  # fmt: skip
    assert len(late) <= OURS, sorted(late)


def test_no_capability_is_found_out_at_run_time() -> None:
    """How a run goes is said by types; names of attributes may be looped over in messages."""
    for path in FILES:
        if home(path) in ("schedules", "pipeline", "signals", "selectors", "cli"):
            calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                     if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]  # fmt: skip
            assert not [call for call in calls if call.func.id in ("hasattr", "cast")], path
            defaults = [c for c in calls if c.func.id == "getattr" and len(c.args) == 3]
            assert not defaults, path
