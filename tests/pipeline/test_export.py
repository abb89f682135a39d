"""``spice export``: what is written is what was chosen, as each trainer reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import exported
import pytest
from exported import Turns, turns, unmasked
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.data.identity import identify
from spice.data.pool import FilePool
from spice.data.trainer_forms import FORMS
from spice.errors import InputError
from spice.pipeline.export import Exported, export
from spice.records import Row

ROWS = identify(
    [
        exported.row("Sag’s auf Deutsch", "", "Größe — ✓ \u2028 新"),
        exported.row("And?", "below it", "yes", [("one", "two"), ("three", "four")], "be brief"),
        exported.row("Alone", "", "last\r\n", [("what", "not this")], "", [False, True]),
        exported.row("Then", "", "no", [("a", "b"), ("c", "d")], "", [True, False, False]),
        exported.row("Sag’s auf Deutsch", "", "Größe — ✓ \u2028 新"),
    ]
)


def read(form: str, done: Exported, cache: Path) -> list[Turns]:
    """Every row's turns as a form's trainer reads them."""
    if form == "llamafactory":
        return exported.as_llamafactory_reads(done.path, done.config)
    if form == "openai":
        return exported.as_openai_reads(done.path)
    if form == "axolotl":
        return exported.as_axolotl_reads(done.config, cache)
    if form == "datasets":
        import datasets

        return [turns(Row.from_dict(row)) for row in datasets.load_from_disk(str(done.path))]
    return [[(t["role"], t["content"], t["role"] == "assistant") for t in row["messages"]]
            for row in exported.loaded(done.path, cache)]  # fmt: skip


@pytest.mark.parametrize("form", [form for form in FORMS if form != "ids"])
@settings(max_examples=15)
@given(st.data())
def test_rows_come_back_in_order_with_nothing_lost(form: str, data: st.DataObject) -> None:
    rows = data.draw(exported.pools())
    picks = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, len(rows)))]
    with tempfile.TemporaryDirectory() as name:
        run = exported.run_of(Path(name), rows, picks)
        done = export(run, form)
        assert done.rows == len(picks)
        chosen = [turns(rows[pick]) for pick in picks]
        found = read(form, done, Path(name))
        assert list(map(unmasked, found)) == list(map(unmasked, chosen))
        same = sum(a == b for a, b in zip(found, chosen, strict=True))
        assert any("not to be learnt" in w for w in done.warnings) == (same < len(picks))
        if form in ("axolotl", "openai", "datasets"):
            assert found == chosen


@settings(max_examples=15)
@given(exported.pools(), st.sampled_from(["openai", "datasets"]))
def test_our_own_reader_knows_what_was_exported(rows: list[Row], form: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        done = export(exported.run_of(Path(name), rows, range(len(rows))), form)
        again = FilePool((str(done.path),), None, "error").load().rows
    assert list(map(turns, again)) == list(map(turns, rows))
    if form == "datasets":
        assert [row.id for row in again] == [row.id for row in rows]


@settings(max_examples=10)
@given(st.data())
def test_the_rest_is_what_was_not_chosen_in_the_pool_s_order(data: st.DataObject) -> None:
    rows = data.draw(exported.pools())
    picks = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, len(rows)))]
    with tempfile.TemporaryDirectory() as name:
        run = exported.run_of(Path(name), rows, picks)
        if len(picks) == len(rows):
            with pytest.raises(InputError, match="all rows were chosen"):
                export(run, "ids", not_chosen=True)
            return
        rest = export(run, "ids", not_chosen=True).path.read_text(encoding="utf-8").split()
        mine = export(run, "ids").path.read_text(encoding="utf-8").split()
    assert mine == [rows[pick].id for pick in picks]
    assert rest == [row.id for i, row in enumerate(rows) if i not in picks]


def test_masks_are_kept_where_a_form_has_them_and_told_of_elsewhere(tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, range(5))
    lost = {form: export(run, form).warnings for form in FORMS}
    for form in ("llamafactory", "trl"):
        assert lost[form][0].startswith("2 of 5 rows have answers that are not to be learnt; ")
    assert lost["axolotl"] == lost["datasets"] == lost["ids"] == []
    assert lost["openai"] == ["5 rows; OpenAI's fine-tuning takes 10 at least"]


def test_llamafactory_masks_histories_where_that_is_what_all_rows_want(tmp_path: Path) -> None:
    done = export(exported.run_of(tmp_path, ROWS, [0, 2]), "llamafactory")
    assert done.config.endswith("\nmask_history: true")
    assert done.warnings == []
    assert read("llamafactory", done, tmp_path) == [turns(ROWS[0]), turns(ROWS[2])]


def test_a_run_that_learns_last_answers_alone_exports_them_so(tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, [1], supervise="last")
    for form in ("axolotl", "openai", "llamafactory"):
        [found] = read(form, export(run, form), tmp_path)
        learnt = [said for _, said, learnt in found if learnt]
        assert learnt == ["yes"], form


def test_others_entries_of_a_registry_stay(tmp_path: Path) -> None:
    run, folder = exported.run_of(tmp_path, ROWS, [1, 0]), tmp_path / "LLaMA-Factory" / "data"
    folder.mkdir(parents=True)
    registry = folder / "dataset_info.json"
    theirs = {"mine": {"file_name": "mine.json"}, "größer": {"hf_hub_url": "owner/name"}}
    registry.write_text(json.dumps(theirs), encoding="utf-8")
    first = export(run, "llamafactory", folder)
    export(run, "llamafactory", folder, not_chosen=True)
    known = json.loads(registry.read_text(encoding="utf-8"))
    assert list(known)[:2] == list(theirs)
    assert {name: known[name] for name in theirs} == theirs
    assert len(known) == 4
    assert read("llamafactory", first, tmp_path) == [turns(ROWS[1]), turns(ROWS[0])]
    before = registry.stat().st_mtime_ns
    export(run, "llamafactory", folder)  # the same once more changes nothing
    assert registry.stat().st_mtime_ns == before
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 3  # nothing else is left


def test_a_registry_that_is_a_link_stays_one(tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, [1])
    (tmp_path / "real.json").write_text("{}", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").symlink_to(tmp_path / "real.json")
    export(run, "llamafactory", tmp_path / "data")
    assert (tmp_path / "data/dataset_info.json").is_symlink()
    assert len(json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))) == 1


def many_exports(runs: Sequence[Path], folder: Path) -> None:
    command = [sys.executable, "-m", "spice", "export", "--to", "llamafactory", "--folder", folder]
    at_work = [subprocess.Popen([*command, run], env={**os.environ}) for run in runs]
    assert [process.wait(timeout=120) for process in at_work] == [0] * len(runs)


@pytest.mark.slow
def test_exports_at_once_all_have_their_entry(tmp_path: Path) -> None:
    runs = [exported.run_of(tmp_path / str(i), ROWS, [i]) for i in range(3)]
    many_exports(runs, tmp_path / "data")
    registry = tmp_path / "data/dataset_info.json"
    assert len(json.loads(registry.read_text(encoding="utf-8"))) == 3


@pytest.mark.parametrize("form", FORMS)
def test_what_is_somebody_s_is_not_written_over(form: str, tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, [1, 3])
    done = export(run, form)
    assert export(run, form) == done  # the same command's own
    if form == "datasets":
        (done.path / "state.json").write_text("theirs", encoding="utf-8")
    else:
        done.path.write_text("theirs", encoding="utf-8")
    with pytest.raises(InputError, match="is there already, with other content"):
        export(run, form)
    theirs = done.path / "state.json" if form == "datasets" else done.path
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert not list(done.path.parent.glob("*partial*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON, and is left"), ("[]", "is no JSON object"), (None, "has another entry")],
)
def test_a_registry_that_cannot_be_added_to_is_left_alone(
    text: str | None, message: str, tmp_path: Path
) -> None:
    run = exported.run_of(tmp_path, ROWS, [1])
    name = export(run, "ids").path.name.removesuffix(".ids.txt")
    registry = tmp_path / "dataset_info.json"
    text = text or json.dumps({name: {"file_name": "another.json"}})
    registry.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        export(run, "llamafactory", tmp_path)
    assert registry.read_text(encoding="utf-8") == text


def damaged(name: str, text: str) -> Callable[[Path], Any]:
    return lambda run: (run / name).write_text(text, encoding="utf-8")


def without(name: str) -> Callable[[Path], Any]:
    return lambda run: (run / name).unlink()


def reworded(run: Path) -> None:
    path = run / "selected.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("brief", "long"), encoding="utf-8")


def reordered(run: Path) -> None:
    path = run.parent / "pool.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    path.write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "not_chosen", "message"),
    [
        (without("selection.json"), False, "no run that has chosen, it has no selection.json"),
        (without("config.yaml"), False, "no run that has chosen, it has no config.yaml"),
        (damaged("selection.json", "{"), False, "config.yaml or selection.json is damaged"),
        (damaged("selection.json", "[]"), False, "config.yaml or selection.json is damaged"),
        (damaged("selection.json", '{"ids": []}'), False, "or selection.json is damaged"),
        (damaged("selected.jsonl", "[]\n"), False, r"selected\.jsonl is damaged"),
        (damaged("config.yaml", "a: b: c"), False, "config.yaml or selection.json is damaged"),
        (damaged("selected.jsonl", "{}\n"), False, r"selected\.jsonl is damaged"),
        (without("selected.jsonl"), False, r"selected\.jsonl is damaged"),
        (reworded, False, r"selected\.jsonl is damaged"),
        (reordered, True, "its pool has changed since"),
        (lambda run: (run.parent / "pool.jsonl").unlink(), True, "cannot be read again: .*no such"),
    ],
)
def test_what_cannot_be_exported_is_said(
    change: Callable[[Path], Any], not_chosen: bool, message: str, tmp_path: Path
) -> None:
    run = exported.run_of(tmp_path, ROWS, [1, 3])
    change(run)
    with pytest.raises(InputError, match=message) as refused:
        export(run, "trl", not_chosen=not_chosen)
    assert "\n" not in str(refused.value)
    assert not (run / "export").exists()


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, [1])
    with pytest.raises(InputError, match=r"--folder: .* cannot be a folder"):
        export(run, "ids", tmp_path / "pool.jsonl" / "below")


def test_reading_the_pool_again_makes_no_cache(tmp_path: Path) -> None:
    run = exported.run_of(tmp_path, ROWS, [1])
    export(run, "ids", not_chosen=True)
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    export(run, "ids", not_chosen=True)
    assert list((tmp_path / "cache/rows").iterdir())


def test_a_run_that_chose_nothing_has_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row was chosen"):
        export(exported.run_of(tmp_path, ROWS, []), "trl")


def test_a_sweep_is_told_to_name_its_run(tmp_path: Path) -> None:
    exported.run_of(tmp_path, ROWS, [1])
    with pytest.raises(InputError, match=f"a run of this sweep is {tmp_path / 'run'}"):
        export(tmp_path, "trl")


def test_a_run_hands_its_rows_on_as_soon_as_they_are_chosen(
    start: Callable[..., dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "spice")
    asked = "export.to=llamafactory", f"export.folder={tmp_path / 'data'}"
    start("selector=random", "finetune=none", "until=selection", *asked, folder=tmp_path / "one")
    [path] = (tmp_path / "data").glob("random_8_*.json")
    again = export(tmp_path / "one", "llamafactory")
    assert path.read_bytes() == again.path.read_bytes()
    assert json.loads((tmp_path / "data/dataset_info.json").read_text()).keys() == {
        path.name.removesuffix(".llamafactory.json")
    }
    assert f"export      8 rows for llamafactory: {path}" in caplog.text
    assert "export      in the training's yaml:" in caplog.text


def test_a_run_that_is_finished_already_hands_its_rows_on_too(
    start: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    one = tmp_path / "one"
    first = start("selector=random", "finetune=none", folder=one)
    assert start("selector=random", "finetune=none", "export.to=ids", folder=one) == first
    [path] = (one / "export").iterdir()
    assert path.read_text().split() == json.loads((one / "selection.json").read_text())["ids"]


def test_what_could_not_be_handed_on_is_refused_before_anything_is_read(
    start: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dataset_info.json").write_text("{", encoding="utf-8")
    for more, words in (
        (("export.to=trl", f"export.folder={tmp_path / 'file'}"), "export.folder: .*is a file"),
        (("export.to=llamafactory", f"export.folder={tmp_path}"), "is no JSON"),
        ((f"export.folder={tmp_path}",), "export.to says for whom"),
    ):
        with pytest.raises(InputError, match=words):
            start("selector=random", "finetune=none", *more)
    assert not (tmp_path / "cache").exists()
    start("selector=none", "finetune=none", "export.to=trl")  # nothing was chosen


@pytest.mark.slow
def test_a_finished_run_is_exported_on_the_command_line(
    start: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    start("selector=random", "finetune=none", folder=tmp_path / "one")
    command = [sys.executable, "-m", "spice", "export", str(tmp_path / "one"), "--to"]
    done = subprocess.run([*command, "trl"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    [path] = (tmp_path / "one/export").iterdir()
    assert done.stdout.startswith(f"{path}: 8 rows\nin the training's script:\n  SFTTrainer(")
    rest = subprocess.run([*command, "ids", "--not-chosen"], capture_output=True, text=True)
    assert ": 32 rows\n" in rest.stdout
    wrong = subprocess.run([*command, "unsloth"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "invalid choice: 'unsloth'" in wrong.stderr
