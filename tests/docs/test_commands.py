"""Every command of the README and docs/ is one that works."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from compose import composed
from documents import PAGES, ROOT, commands, name, of_spice

from spice.__main__ import COMMANDS

ALL = [(page, words) for page in PAGES for words in commands(page)]
OF_SPICE = [(page, given) for page, words in ALL if (given := of_spice(words)) is not None]
OTHERS = [(page, words) for page, words in ALL if of_spice(words) is None]
#: Hydra's own, which print and run nothing
PRINTING = {"--cfg", "--info"}
#: programs of the system and of others, which a page may use in passing
PLAIN = {"head", "jupyter", "source"}


def label(value: object) -> str:
    return name(value) if isinstance(value, Path) else " ".join(value)  # type: ignore[arg-type]


def overrides_of(given: list[str]) -> list[str]:
    """One job of a command: the first value of each that a sweep goes through."""
    singles = [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in given]
    return [word for word in singles if not word.startswith("-")]


@pytest.mark.parametrize(("page", "given"), OF_SPICE, ids=label)
def test_every_run_composes(page: Path, given: list[str]) -> None:
    if given[0] in ("report", "export", "diagnose"):
        return  # below
    if "--config-path" in given:
        return  # replaying is run for real by test_cli
    if "--config-dir" in given:
        return  # options of one's own are run by test_docs
    flags = {word for word in given if word.startswith("-")}
    assert flags <= {"-m", *PRINTING}
    words = given[1:] if given[0] == "check" else given
    words = [word for word in words if word not in {"job", "defaults"}]
    composed(*overrides_of(words))


@pytest.mark.parametrize(
    ("page", "given"), [(p, g) for p, g in OF_SPICE if g[0] in ("report", "export", "diagnose")],
    ids=label,
)  # fmt: skip
def test_every_command_on_finished_runs_knows_its_arguments(
    page: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a command refuses the folder, which is not there, and nothing else."""
    if given[0] not in COMMANDS:
        pytest.skip(f"spice {given[0]} is not there")
    from spice.errors import InputError

    nowhere = [word.replace("runs/", f"{tmp_path}/") for word in given[1:]]
    nowhere = [word.replace("multirun/*/*", f"{tmp_path}/none") for word in nowhere]
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        COMMANDS[given[0]](nowhere)
    assert "usage:" not in capsys.readouterr().err


@pytest.mark.parametrize(("page", "words"), OTHERS, ids=label)
def test_every_other_command_is_there(page: Path, words: list[str]) -> None:
    program, arguments = words[0], words[1:]
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in arguments if "=" not in word):
            assert re.search(rf"(?m)^({target}:|TABLES := .*\b{target}\b)", makefile), target
    elif program == "python":
        assert arguments[0] == "-m"
        assert importlib.util.find_spec(arguments[1])
    elif program == "pip":
        assert arguments[0] == "install"
        assert extras(" ".join(arguments)) <= extras_there()
    else:
        assert program in PLAIN


def extras(text: str) -> set[str]:
    found = re.findall(r"(?:spice-selection|\.)\[([\w,]+)\]", text)
    return {extra for group in found for extra in group.split(",")}


def extras_there() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_stands_in_the_text_is_there_too(page: Path) -> None:
    """Targets, extras and overrides that a page names in passing."""
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z0-9-]+)(?: SCALE=\w+)?`", text):
        assert re.search(rf"(?m)^({target}:|TABLES := .*\b{target}\b)", makefile), target
    assert extras(text) <= extras_there()
    for given in re.findall(r"`((?:[a-z_]+(?:\.\w+)*=[\w.]+ ?)+)`", text):
        words = given.split()
        if all(word.partition("=")[0] not in {"k", "n", "d", "t"} for word in words):
            assert not unknown(words), given


def unknown(words: list[str]) -> list[str]:
    """Keys and options that there are not, in whichever option of a group they are."""
    conf = ROOT / "conf"
    missing = []
    for word in words:
        key, _, value = word.partition("=")
        group, _, inner = key.partition(".")
        if key == "validation.paths" or group in {"hydra", "docs"}:
            continue
        if (conf / group).is_dir() and not inner:
            placeholder = value.isupper() or value in {"hardest", "surest"}
            missing += [] if placeholder or (conf / group / f"{value}.yaml").is_file() else [word]
        else:
            files = (conf / group).glob("*.yaml") if inner else [conf / "config.yaml"]
            last = key.rpartition(".")[2]
            texts = [path.read_text(encoding="utf-8") for path in [*files, conf / "config.yaml"]]
            seen = any(re.search(rf"(?m)^ *{last}:", text) for text in texts)
            missing += [] if seen else [word]
    return missing


def test_what_is_not_there_is_found() -> None:
    assert unknown(["selector=spyce", "selector.penality=1", "budgets=1"]) == [
        "selector=spyce", "selector.penality=1", "budgets=1",
    ]  # fmt: skip
    assert not unknown(["selector=spice", "selector.penalty=1", "budget=0.1", "lora.layers=8"])
