"""Stages cost once: for the same inputs, after a crash, and for two processes at a time."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spice
from spice.errors import InputError
from spice.storage.closure import code_version
from spice.storage.stages import Done, Stages, digest

INPUTS: dict[str, Any] = {"data": "d", "sizes": (1, 2), "renderer": {"mode": "plain"}, "k": 3}


class Counting:
    """A stage that counts its calls and writes a file."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "result").write_text(f"{self.calls}")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stages(tmp_path: Path, said: list[str]) -> Stages:
    return Stages(tmp_path / "cache", lambda stage, message: said.append(f"{stage}: {message}"))


def test_the_same_inputs_are_built_once(stages: Stages, said: list[str]) -> None:
    build = Counting()
    first = stages.run("tune", INPUTS, build)
    again = Stages(stages.root, stages.say).run("tune", INPUTS, build)
    assert (first.reused, again.reused, build.calls) == (False, True, 1)
    assert first.folder == again.folder == stages.root / "tune" / first.key
    assert (again.folder / "result").read_text() == "1"
    assert stages.keys == {"tune": first.key}
    assert said == []


@pytest.mark.parametrize(
    "change",
    [{"k": 4}, {"data": "D"}, {"sizes": [2, 1]}, {"renderer": {"mode": "chat"}}, {"more": None}],
)
def test_other_inputs_are_another_stage(stages: Stages, change: dict[str, Any]) -> None:
    build = Counting()
    first, other = stages.run("s", INPUTS, build), stages.run("s", INPUTS | change, build)
    assert build.calls == 2
    assert first.folder != other.folder
    assert stages.keys["s"] == other.key


def test_another_stage_of_the_same_inputs_is_another(stages: Stages) -> None:
    build = Counting()
    assert stages.run("a", INPUTS, build).folder != stages.run("b", INPUTS, build).folder
    assert build.calls == 2


def test_inputs_are_known_by_what_they_say(stages: Stages) -> None:
    """Not by the order of their keys, nor by a list being a tuple."""
    build = Counting()
    stages.run("s", INPUTS, build)
    same = {key: INPUTS[key] for key in reversed(INPUTS)} | {"sizes": [1, 2]}
    assert stages.run("s", same, build).reused
    assert stages.has("s", same)


def test_a_stage_is_there_when_it_is_finished(stages: Stages) -> None:
    assert not stages.has("s", INPUTS)

    def build(partial: Path) -> None:
        assert not stages.has("s", INPUTS)
        assert partial != stages.folder("s", INPUTS)

    done = stages.run("s", INPUTS, build)
    assert stages.has("s", INPUTS)
    assert done.folder == stages.folder("s", INPUTS)
    assert json.loads((done.folder / "inputs.json").read_text()) == json.loads(json.dumps(INPUTS))


def test_inputs_without_a_number_are_found_again(stages: Stages) -> None:
    build = Counting()
    for _ in range(2):
        stages.run("s", {"alpha": float("nan"), "stop": float("inf")}, build)
    assert build.calls == 1


# -- crashes ---------------------------------------------------------------------------------


class CrashError(Exception):
    pass


@pytest.mark.parametrize("crash", [CrashError, KeyboardInterrupt])
def test_a_crashed_build_is_gone_on_from(
    stages: Stages, said: list[str], crash: type[BaseException]
) -> None:
    def half(partial: Path) -> None:
        (partial / "first").write_text("half")
        raise crash

    def rest(partial: Path) -> None:
        assert (partial / "first").read_text() == "half"
        (partial / "second").write_text("half")

    with pytest.raises(crash):
        stages.run("s", INPUTS, half)
    assert not stages.has("s", INPUTS)
    done = stages.run("s", INPUTS, rest)
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "files.json",
        "first",
        "inputs.json",
        "second",
    ]
    assert len(said) == 1
    assert said[0].startswith("s: going on from what an interrupted run left")
    assert [p.name for p in (stages.root / "s").iterdir() if p.is_dir()] == [done.key]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a flipped bit": lambda path: path.write_bytes(
        bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]
    ),
    "other inputs": lambda path: path.write_text('{"data": "other"}'),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["result", "inputs.json", "files.json"])
def test_a_damaged_stage_is_made_again(
    stages: Stages, said: list[str], name: str, how: str
) -> None:
    build = Counting()
    folder = stages.run("s", INPUTS, build).folder
    DAMAGE[how](folder / name)
    assert not stages.has("s", INPUTS)
    assert not stages.run("s", INPUTS, build).reused
    assert (folder / "result").read_text() == "2"
    assert len(said) == 1
    assert re.fullmatch(rf"s: {folder} is damaged \((data|{name})\): made again", said[0])
    assert stages.run("s", INPUTS, build).reused


def test_of_a_damaged_stage_the_rest_is_gone_on_from(stages: Stages) -> None:
    """But no folder in it of which a file is lost: its being there may mean that it is whole."""

    def build(partial: Path) -> None:
        for name in ("inner", "other"):
            (partial / name).mkdir(exist_ok=True)
            (partial / name / "a").write_text("a")
            (partial / name / "b").write_text("b")
        (partial / "c").write_text("c")

    folder = stages.run("s", INPUTS, build).folder
    (folder / "inner/a").write_text("A")

    def rest(partial: Path) -> None:
        left = {str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file()}
        assert left == {"other/a", "other/b", "c"}
        build(partial)

    assert not stages.run("s", INPUTS, rest).reused


def test_a_folder_made_from_other_inputs_is_refused(stages: Stages) -> None:
    build = Counting()
    folder = stages.run("s", INPUTS, build).folder
    other = stages.folder("s", {"other": 1})
    folder.rename(other)
    for act in (
        lambda: stages.run("s", {"other": 1}, build),
        lambda: stages.has("s", {"other": 1}),
    ):
        with pytest.raises(InputError, match=r"made from other inputs.*delete it") as caught:
            act()
        assert str(other) in str(caught.value)
    assert build.calls == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_what_the_disk_refuses_is_one_line_and_what_is_whole_stays(
    stages: Stages, number: int
) -> None:
    def full(partial: Path) -> None:
        (partial / "first").write_text("whole")
        raise OSError(number, os.strerror(number))

    with pytest.raises(InputError) as caught:
        stages.run("s", INPUTS, full)
    told = str(caught.value)
    assert told.startswith(f"{stages.root}/s/")
    assert os.strerror(number) in told
    assert "cache_dir" in told
    assert ("GB free of" in told) == (number in (errno.ENOSPC, errno.EDQUOT))
    stages.run("s", INPUTS, lambda partial: (partial / "first").read_text())


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cache_dir: .*file/s cannot be written"):
        Stages(tmp_path / "file", print).run("s", INPUTS, Counting())


# -- two processes ---------------------------------------------------------------------------

PROCESSES = multiprocessing.get_context("spawn")


def leave(path: Path, text: str) -> None:
    """Write so that whoever sees the file sees all of it."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def other_run(root: Path, wait: bool) -> None:
    """Another process's run. It leaves word of what it says, builds and gets."""

    def build(partial: Path) -> None:
        leave(partial / f"begun-{os.getpid()}", "")
        while wait and not (root / "go").exists():
            time.sleep(0.01)
        (partial / "result").write_text(str(os.getpid()))

    def say(stage: str, message: str) -> None:
        leave(root / f"said-{os.getpid()}", message)

    done = Stages(root, say).run("s", INPUTS, build)
    found = {"reused": done.reused, "result": (done.folder / "result").read_text()}
    leave(root / f"got-{os.getpid()}", json.dumps(found))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[bool], BaseProcess]]:
    """Start another process on the stage; none outlives the test."""
    started: list[BaseProcess] = []

    def start(wait: bool) -> BaseProcess:
        started.append(PROCESSES.Process(target=other_run, args=(tmp_path, wait), daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def got(root: Path, process: BaseProcess) -> dict[str, Any]:
    process.join(60)
    assert process.exitcode == 0
    return json.loads((root / f"got-{process.pid}").read_text())


def builders(root: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in root.glob("s/*/begun-*")]


Start = Callable[[bool], BaseProcess]


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path, start: Start) -> None:
    builder = start(True)
    until(lambda: builders(tmp_path))
    waiting = start(True)
    said = tmp_path / f"said-{waiting.pid}"
    until(said.exists)
    assert said.read_text().startswith("waiting for s/")
    assert f"host {socket.gethostname()}, pid {builder.pid}, since " in said.read_text()
    assert waiting.is_alive()
    leave(tmp_path / "go", "")
    assert got(tmp_path, builder) == {"reused": False, "result": str(builder.pid)}
    assert got(tmp_path, waiting) == {"reused": True, "result": str(builder.pid)}
    assert builders(tmp_path) == [builder.pid]


def test_a_killed_builders_place_is_taken_by_the_one_who_waits(
    tmp_path: Path, start: Start
) -> None:
    killed = start(True)
    until(lambda: builders(tmp_path))
    waiting = start(False)
    said = tmp_path / f"said-{waiting.pid}"
    until(said.exists)
    killed.kill()
    assert got(tmp_path, waiting) == {"reused": False, "result": str(waiting.pid)}
    assert said.read_text().startswith("going on from what an interrupted run left")
    assert sorted(builders(tmp_path)) == sorted([killed.pid, waiting.pid])


def test_many_processes_at_once_build_once(tmp_path: Path, start: Start) -> None:
    crowd = [start(False) for _ in range(4)]
    found = [got(tmp_path, process) for process in crowd]
    assert [one["reused"] for one in found].count(False) == 1
    assert {one["result"] for one in found} == {str(pid) for pid in builders(tmp_path)}
    assert len(builders(tmp_path)) == 1


# -- keys ------------------------------------------------------------------------------------

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(json_like, json_like)
def test_digests_agree_where_the_json_does(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same
    assert len(digest(one)) == 16


def test_sets_are_sorted_and_strangers_refused() -> None:
    assert digest({"b", "a", "c"}) == digest(["a", "b", "c"]) == digest(frozenset("cab"))
    with pytest.raises(TypeError, match="PosixPath cannot be part of a key"):
        digest({"folder": Path("x")})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with two modules and one below, importable under its name."""
    folder = tmp_path / "somepackage"
    (folder / "below").mkdir(parents=True)
    for name in ("__init__", "one", "two", "below/__init__", "below/three"):
        (folder / f"{name}.py").write_text(f"# {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("somepackage")]:
        del sys.modules[name]  # finding a module's file imports the packages above it


def test_the_code_version_follows_the_sources_it_names(package: Path) -> None:
    def versions() -> list[str]:
        return [
            code_version("somepackage.one"),
            code_version("somepackage.one", "somepackage.two"),
            code_version("somepackage.below"),
            code_version("somepackage"),
        ]

    before = versions()
    assert before == versions()
    assert len(set(before)) == 4
    assert all(version.startswith(f"{spice.__version__}+") for version in before)
    for name, changed in [
        ("one.py", [True, True, False, True]),
        ("two.py", [False, True, False, True]),
        ("below/three.py", [False, False, True, True]),
        ("notes.txt", [False] * 4),
    ]:
        (package / name).write_text("x = 1\n")
        now = versions()
        assert [a != b for a, b in zip(before, now, strict=True)] == changed
        before = now


def test_the_code_version_knows_which_file_says_what(package: Path) -> None:
    (package / "one.py").write_text("a = 1\n")
    (package / "two.py").write_text("b = 2\n")
    before = code_version("somepackage.one", "somepackage.two")
    (package / "one.py").write_text("a = 1\nb = 2\n")
    (package / "two.py").write_text("")
    assert code_version("somepackage.one", "somepackage.two") != before


def test_a_module_that_does_not_exist_has_no_version() -> None:
    with pytest.raises(ModuleNotFoundError):
        code_version("spice.no_such_module")


def test_our_own_stages_have_versions() -> None:
    versions = {code_version(name) for name in ("spice", "spice.selectors", "spice.data.rendering")}
    assert len(versions) == 3


def test_done_is_a_record(stages: Stages) -> None:
    done = stages.run("s", INPUTS, lambda partial: time.sleep(0.05))
    assert done == Done("s", digest(INPUTS), done.folder, False, done.seconds)
    assert done.seconds >= 0.05
