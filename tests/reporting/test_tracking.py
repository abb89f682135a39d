"""Offline tracking: everything inside the run folder, nothing secret in it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spice.errors import InputError
from spice.reporting.tracking import Tracker, identity

KEY = "0123456789abcdef" * 2 + "01234567"  # forty hexadecimal digits, as W&B's own

#: One tracked run as the pipeline makes it: a selection, a figure, scores.
SCRIPT = """
import json, os, sys
from pathlib import Path
from spice.reporting.tracking import Tracker

folder = Path(sys.argv[1])
selection = {
    "k": 2, "indices": [4, 1], "ids": ["d", "b"], "gains": [1.5, 0.5], "conflicts": [0.0, 0.25],
}
results = {
    "average": 0.5,
    "scores": {
        "gsm8k": {"value": 0.5, "stderr": 0.1, "n": 4, "shots": 5, "metric": "exact_match"},
        "mbpp": {"value": None, "stderr": None, "n": 0, "shots": 3, "metric": "pass_at_1"},
    },
}
for name in ("selection.json", "results.json", "config.yaml"):
    (folder / name).write_text(json.dumps({"file": name}))
(folder / "selected.jsonl").write_text('{"id": "d"}\\n')
config = {"selector_name": "spice", "budget": 0.1, "penalty": 0.3, "seed": 7, "trainer": {"a": 1}}
tracker = Tracker("offline", "spice", None, "auto", ["tiny"])
with tracker.run(config, "spice-0.1-seed7", "multirun/today", folder) as tracked:
    tracked.log_selection(selection, {"information": 2.0, "warnings": []})
    from spice.reporting.figures import sources
    drawn = sources({"a": {"pool": 1.0, "picked": 1.0}}, folder / "sources.png")
    csv, wandb = tracked.lightning_loggers()
    csv.log_metrics({"train/loss": 3.0}, step=0)
    csv.save()
    wandb.log_metrics({"train/loss": 3.0}, step=0)
    tracked.log_results(results, [drawn])
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tracked run in a process of its own, with a home of its own to be watched."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("run")
    for name in ("work", "tmp"):
        (home / name).mkdir()
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG"))}
    environment |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "WANDB_API_KEY": KEY}
    environment |= {"PYTHONPATH": str(root), "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=home / "work",
        env={k: v for k, v in environment.items() if v},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return home, folder


@pytest.fixture(scope="module")
def records(offline: tuple[Path, Path]) -> list[Any]:
    """The messages that W&B would send, out of its own log (LevelDB's format)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = offline[1].glob("wandb/offline-run-*/run-*.wandb")
    data, at, found, partial = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while at < len(data):
        if 32768 - at % 32768 < 7:  # no header fits what is left of a block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        partial += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            found.append(Record.FromString(partial))
            partial = b""
    return found


@pytest.mark.slow
def test_nothing_is_written_outside_the_run_folder(offline: tuple[Path, Path]) -> None:
    home, folder = offline
    outside = [p for p in home.rglob("*") if p.is_file() and "matplotlib" not in p.parts]
    assert outside == []
    assert list(folder.glob("wandb/offline-run-*"))


def test_the_key_is_in_no_file(offline: tuple[Path, Path]) -> None:
    for folder in offline:
        for path in folder.rglob("*"):
            assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_run_is_the_same_one_there_when_it_is_taken_up_again(
    offline: tuple[Path, Path], records: list[Any]
) -> None:
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert run.run_id == (offline[1] / "wandb" / "id").read_text(encoding="utf-8")
    assert run.run_id == identity(offline[1] / "wandb" / "id")
    assert identity(offline[0] / "id") not in {run.run_id, ""}


def test_group_name_tags_and_settings_are_recorded(records: list[Any]) -> None:
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (run.run_group, run.display_name, list(run.tags), run.project) == (
        "multirun/today", "spice-0.1-seed7", ["tiny"], "spice",
    )  # fmt: skip
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    expected = {"selector_name": "spice", "budget": 0.1, "penalty": 0.3, "seed": 7}
    assert expected.items() <= settings.items()


def test_scores_losses_and_tables_are_logged(
    offline: tuple[Path, Path], records: list[Any]
) -> None:
    history: dict[str, Any] = {}
    for record in records:
        for item in record.history.item:
            history[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert history["scores/gsm8k"] == history["scores/average"] == 0.5
    assert "scores/mbpp" not in history  # skipped is not 0
    assert history["train/loss"] == 3.0
    tables = {}
    for name in ("selection/picks", "scores/table"):
        assert history[f"{name}/_type"] == "table-file"
        (path,) = offline[1].glob(f"wandb/offline-run-*/files/{history[f'{name}/path']}")
        tables[name] = json.loads(path.read_text())["data"]
    assert tables["selection/picks"] == [[1, 4, "d", 1.5, 0.0], [2, 1, "b", 0.5, 0.25]]
    assert ["mbpp", None, None, 0, 3, "pass_at_1"] in tables["scores/table"]
    assert history["figures/sources/_type"] == "image-file"


def test_selection_and_results_are_artifacts(records: list[Any]) -> None:
    found = {}
    for record in records:
        if record.WhichOneof("record_type") == "artifact":
            entries = record.artifact.manifest.contents
            found[record.artifact.type] = {entry.path for entry in entries}
    assert found["selection"] == {"selection.json", "selected.jsonl"}
    assert found["results"] == {"results.json", "config.yaml"}


def test_curves_are_in_a_csv_too(offline: tuple[Path, Path]) -> None:
    text = (offline[1] / "logs" / "metrics.csv").read_text()
    assert text.splitlines()[0].split(",") == ["step", "train/loss"]


def test_disabled_tracking_writes_a_csv_alone(tmp_path: Path) -> None:
    tracker = Tracker("disabled", "spice", None, "auto")
    with tracker.run({}, "run", None, tmp_path) as tracked:
        tracked.log_selection({}, {})
        tracked.log_results({}, [])
        (csv,) = tracked.lightning_loggers()
    assert Path(csv.log_dir) == tmp_path / "logs"
    assert [p.name for p in tmp_path.iterdir() if p.name != "logs"] == []


def test_an_unknown_mode_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"^wandb=of: must be offline, online or disabled"):
        Tracker("of", "spice", None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project", ""),
        ("project", "a/b"),
        ("project", "x" * 129),
        ("project", 7),
        ("entity", ""),
        ("group", "x" * 129),
        ("tags", "one"),
        ("tags", [""]),
        ("tags", ["x" * 65]),
        ("tags", [1]),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_it_is_asked(key: str, value: Any) -> None:
    fine: dict[str, Any] = {"wandb": "offline", "project": "spice", "entity": None, "group": "auto"}
    with pytest.raises(InputError, match=rf"^{key}="):
        Tracker(**{**fine, key: value})


@pytest.mark.parametrize("key", ["", "too-short"])
def test_a_run_without_a_key_of_wandb_is_one_line(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no login file there
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", key)
    tracker = Tracker("online", "spice", None, "auto")
    with (
        pytest.raises(InputError, match=r"^logger\.wandb=online: .*WANDB_API_KEY") as refused,
        tracker.run({}, "run", "s" * 200, tmp_path),
    ):
        raise AssertionError("W&B was given no key, and began a run")
    assert "logger.wandb=offline" in str(refused.value)
    assert "\n" not in str(refused.value)
