"""Nothing in the package runs what somebody else wrote: no unpickling, no evaluating, no shell."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "spice"
FILES = sorted(PACKAGE.rglob("*.py"))
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
#: calls that need a keyword to be safe, and what it has to be
NEEDED = {"torch.load": ("weights_only", True)}
#: keywords that make a call unsafe unless they are this
GIVEN = {"trust_remote_code": False, "allow_pickle": False, "shell": False, "verify": True}
REFUSED = {
    "eval", "exec", "__import__", "os.system", "os.popen", "tempfile.mktemp", "yaml.load",
    "yaml.full_load", "yaml.unsafe_load", "pandas.read_pickle", "runpy.run_path",
}  # fmt: skip
#: the jail's own, and an expression that stands a few lines above it
ALLOWED = {
    ("distributed/team.py", "pickle"),  # between a run's own processes, as torch sends objects
    ("evaluation/code_execution/runner.py", "exec"),
    ("sandbox/skills/code.py", "eval"),
}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What a file does that it should not, by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = (
                [module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            yield from (name for name in names if name.partition(".")[0] in UNPICKLING)
        if isinstance(node, ast.Name) and node.id in REFUSED:  # also where it is handed on
            yield node.id
        if isinstance(node, ast.Attribute) and ast.unparse(node) in REFUSED:
            yield ast.unparse(node)
        if isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
    if name in NEEDED and given.get(NEEDED[name][0]) is not NEEDED[name][1]:
        yield name
    yield from (f"{name}({k}=)" for k, safe in GIVEN.items() if k in given and given[k] is not safe)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_file_runs_nothing_of_others(path: Path) -> None:
    where = path.relative_to(PACKAGE).as_posix()
    found = set(unsafe(ast.parse(path.read_text(encoding="utf-8"))))
    assert found == {name for file, name in ALLOWED if file == where}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import joblib.memory", "torch.load(path)",
        "torch.load(path, weights_only=False)", "torch.load(path, weights_only=asked)",
        "np.load(path, allow_pickle=True)", "load(x, trust_remote_code=True)",
        "load(x, trust_remote_code=given)", "yaml.load(text, Loader=Loader)", "eval(text)",
        "map(exec, texts)", "subprocess.run(line, shell=True)", "os.system(line)",
        "requests.get(url, verify=False)",
    ],
)  # fmt: skip
def test_what_is_unsafe_is_found(line: str) -> None:
    assert list(unsafe(ast.parse(line)))


def test_every_dependency_is_pinned_in_the_tested_versions() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    pins = (PACKAGE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(pin.partition("==")[0]) for pin in pins if "==" in pin}
    names = {canonical(re.split(r"[\[<>=; ]", name)[0]) for name in asked} - {project["name"]}
    assert not names - pinned


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")
