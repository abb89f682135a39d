"""The command line as its users meet it: in processes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halves import slow_but
from safetensors.torch import load_file, save_file

from spice.cli.explain import conf_dir

Spice = Callable[..., subprocess.CompletedProcess[str]]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "spice", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SPICE_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def spice(tmp_path: Path) -> Spice:
    """Run the command in ``tmp_path`` and wait for it."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(tmp_path, *arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture
def local(make_checkpoint: Callable[..., Path]) -> list[str]:
    """Options for tiny models, choosing only."""
    folder = make_checkpoint("llama")
    models = ["proxy=local", f"proxy.path={folder}", "model=local", f"model.path={folder}"]
    return [*models, "benchmarks=none", "finetune=none", "logger=csv"]


def loaded_modules(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(out.split())


def test_importing_spice_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "hydra", "transformers", "pytorch_lightning", "lm_eval", "wandb"}
    assert not heavy & loaded_modules("import spice")


def test_the_command_line_loads_nothing_heavy_before_it_runs() -> None:
    heavy = {"torch", "numpy", "transformers", "pytorch_lightning", "lm_eval", "wandb"}
    assert not heavy & loaded_modules("import spice.__main__")


def test_help_says_what_each_option_of_each_group_is(spice: Spice) -> None:
    shown = spice("--help")
    assert shown.returncode == 0
    lines = {tuple(line.split()[:3]) for line in shown.stdout.splitlines()}
    assert {("selector", "dpp", "DPP:"), ("*", "spice", "SPICE:")} <= lines
    for group in (path for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"\n  {group.name} " in shown.stdout
        for option in group.glob("*.yaml"):
            assert f" {option.stem} " in shown.stdout
    assert "budget" in shown.stdout


# -- bad input: one clear line, exit code 2, before any model is loaded ------------------------


def broken_on_line_17(records: list[Any]) -> list[Any]:
    return [*records[:16], '{"instruction": "broken', *records[17:]]


def without_response(records: list[Any]) -> list[Any]:
    return [*records[:4], {"instruction": "nobody answers"}, *records[5:]]


BAD_POOLS = [
    (broken_on_line_17, "pool.jsonl:17: not valid JSON"),
    (without_response, "pool.jsonl:5: no response"),
    (lambda records: [""], "the pool is empty"),
]


@pytest.mark.parametrize(("spoil", "message"), slow_but(BAD_POOLS, BAD_POOLS[:1]))
def test_a_bad_pool_is_one_clear_error(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    spoil: Callable[[list[Any]], list[Any]],
    message: str,
) -> None:
    path = write_jsonl(spoil(records))
    assert_one_error(spice(*local, "data=jsonl", f"data.paths=[{path}]"), message)


BAD_OPTIONS = [
    (["data.paths=[missing.jsonl]"], "no such file: missing.jsonl"),
    (["budget=0"], "budget=0"),
    (["budget=1.5"], "budget=1.5"),
    (["budget=5000"], "the pool has only 40 rows"),
    (["selector=spcie"], "Did you mean 'spice'?"),
    (["selector.penality=1"], "Did you mean 'penalty'?"),
    (["selectr=spice"], "Did you mean 'selector'?"),
    (["selector.penalty=-1"], "selector.penalty=-1"),
    (["+selector.foo=1"], "foo"),
    (["selector.scale=uint"], "Did you mean 'unit'?"),
    (["schedule=pools", "selector.stratify=source"], "need schedule=global"),
    (["selector.quotas={a: 2}"], "selector.quotas={a: 2.0}: shares sum to 2"),
    (["selector.quotas={nowhere: 0.5}"], "selector.quotas.nowhere: no such source"),
    (["proxy.path=nowhere"], "no such folder: nowhere"),
    (["benchmarks=paper", "benchmarks.mirror=mirror"], "lacks"),
    (["finetune=sandbox", "model.path=???"], "model.path is missing"),
]


@pytest.mark.parametrize(
    ("options", "message"),
    slow_but(BAD_OPTIONS, [BAD_OPTIONS[1], *BAD_OPTIONS[4:6]]),
    ids=lambda value: str(value)[:40],
)
def test_a_bad_option_is_one_clear_error(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    options: list[str],
    message: str,
) -> None:
    path = write_jsonl(records)
    (path.parent / "mirror").mkdir()
    assert_one_error(spice(*local, "data=jsonl", f"data.paths=[{path}]", *options), message)


@pytest.mark.slow
def test_weights_that_cannot_be_used_are_told_before_they_are_loaded(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    import shutil

    pool = ["data=jsonl", f"data.paths=[{write_jsonl(records)}]"]
    spoiled = tmp_path / "nan"  # a folder whose name would be a number in yaml
    shutil.copytree(make_checkpoint("llama"), spoiled)
    weights = load_file(spoiled / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, spoiled / "model.safetensors", metadata={"format": "pt"})
    assert_one_error(spice(*local, *pool, "proxy.path=nan"), "model.norm.weight holds NaN")
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    assert_one_error(spice(*local, *pool, "proxy.path=nan"), "has no *.safetensors")


def assert_one_error(run: subprocess.CompletedProcess[str], message: str) -> None:
    assert run.returncode == 2, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("spice: ")
    assert message in lines[0]
    assert "gradients" not in run.stdout  # nothing costly had begun


@pytest.mark.slow
def test_skipped_rows_and_unread_columns_are_counted_and_listed(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    tmp_path: Path,
) -> None:
    noted = [{**record, "passage": "Some words"} for record in records]
    path = write_jsonl(broken_on_line_17(without_response(noted)))
    options = ["data=jsonl", f"data.paths=[{path}]", "data.on_bad_row=skip", "hydra.run.dir=run"]
    done = spice(*local, *options, "data.columns={input: input}")
    assert done.returncode == 0, done.stderr
    assert "2 rows skipped" in done.stdout
    for source, rows in (("math", 20), ("words", 18)):
        assert f"warning: {source}: not read: 'passage' in {rows} rows" in done.stdout
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in audit["skipped"]] == ["5", "17"]
    assert sorted(column["rows"] for column in audit["unread"]) == [18, 20]
    assert "proxy" in audit
    assert "| words | passage | 18 |" in (tmp_path / "run" / "card.md").read_text()


# -- interruption, replay, company --------------------------------------------------------------


def many(records: list[dict[str, str]], copies: int) -> list[dict[str, str]]:
    return [
        {**row, "instruction": f"{copy}. {row['instruction']}"}
        for copy in range(copies)
        for row in records
    ]


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "gradients").glob("*/*.safetensors"))


@pytest.mark.slow
def test_a_killed_extraction_goes_on_from_its_shards_to_the_same_choice(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    tmp_path: Path,
) -> None:
    pool = f"data.paths=[{write_jsonl(many(records, 20))}]"
    options = [*local, "data=jsonl", pool, "gradients.shard_rows=8", "gradients.batch_size=2"]
    process = start(tmp_path, *options)
    while len(shards(tmp_path)) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in shards(tmp_path)}
    assert 3 <= len(kept) < 100  # killed in the middle

    resumed = spice(*options, "hydra.run.dir=resumed")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(kept)} of 100 shards are there already" in resumed.stdout
    after = {path.name: path.stat().st_mtime_ns for path in shards(tmp_path)}
    assert {name: after[name] for name in kept} == kept

    whole = spice(*options, "hydra.run.dir=whole", "cache_dir=elsewhere")
    assert whole.returncode == 0, whole.stderr
    one, two = (
        json.loads((tmp_path / name / "selection.json").read_text())
        for name in ("resumed", "whole")
    )
    for key in ("ids", "gains", "conflicts", "information"):
        assert one[key] == two[key]


@pytest.mark.slow
def test_of_two_runs_that_want_one_store_one_builds_and_one_waits(
    local: list[str], write_jsonl: Callable[..., Path], records: list[Any], tmp_path: Path
) -> None:
    pool = f"data.paths=[{write_jsonl(many(records, 20))}]"
    options = [*local, "data=jsonl", pool, "gradients.shard_rows=8", "gradients.batch_size=2"]
    runs = [start(tmp_path, *options, f"hydra.run.dir=run{i}") for i in range(2)]
    outputs = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    results = [json.loads((tmp_path / f"run{i}/results.json").read_text()) for i in range(2)]
    # Each stage was built by one of them, be it the same one or not, and found by the other.
    assert sorted(stage for r in results for stage in r["reused"]) == ["gradients", "selection"]
    assert len(list((tmp_path / "cache" / "gradients").glob("*/metadata.json"))) == 1


@pytest.mark.slow
def test_a_run_folder_replays_itself(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    tmp_path: Path,
) -> None:
    options = ["data=jsonl", f"data.paths=[{write_jsonl(records)}]", "selector.penalty=0.3"]
    assert spice(*local, *options, "hydra.run.dir=first").returncode == 0
    again = spice("--config-path", "first", "--config-name", "config", "hydra.run.dir=second")
    assert again.returncode == 0, again.stderr
    one, two = ((tmp_path / name / "selection.json").read_bytes() for name in ("first", "second"))
    assert one == two


def test_a_run_folder_that_cannot_be_made_is_one_line(spice: Spice, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    refused = spice("hydra.run.dir=file/run")
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert line.startswith("spice: file/run: Not a directory")
    assert "hydra.run.dir=" in line


@pytest.mark.slow
def test_a_multirun_ends_with_its_table(
    spice: Spice,
    local: list[str],
    write_jsonl: Callable[..., Path],
    records: list[Any],
    tmp_path: Path,
) -> None:
    options = ["data=jsonl", f"data.paths=[{write_jsonl(records)}]", "hydra.sweep.dir=sweep"]
    done = spice("-m", *local, *options, "selector=random,spice", "budget=0.1,0.2")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "sweep" / "table.md").read_text()
    assert [row.split(" | ")[:2] for row in table.splitlines()[2:]] == [
        ["| random", "0.1"],
        ["| random", "0.2"],
        ["| spice", "0.1"],
        ["| spice", "0.2"],
    ]
    finished = (tmp_path / "sweep/0/results.json").read_bytes()
    (tmp_path / "sweep/table.md").unlink()
    (tmp_path / "sweep/2/results.json").unlink()  # as a sweep that was killed leaves it
    shutil.rmtree(tmp_path / "sweep/3")
    again = spice("-m", *local, *options, "selector=random,spice", "budget=0.1,0.2")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("holds this run's results already") == 2
    assert (tmp_path / "sweep/0/results.json").read_bytes() == finished
    assert (tmp_path / "sweep/table.md").read_text() == table
    other = spice("-m", *local, *options, "selector=random,spice", "budget=0.1,0.3")
    assert other.returncode == 1, other.stderr  # jobs 0 and 2 are finished
    [_, first, second] = other.stderr.splitlines()
    assert "job 1: " in first
    assert "sweep/1 holds a finished run with other budget" in first
    assert "sweep/3 holds a finished run with other budget" in second


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from spice.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_is_whole_stays(
    local: list[str], write_jsonl: Callable[..., Path], records: list[Any], tmp_path: Path
) -> None:
    options = [*local, "data=jsonl", f"data.paths=[{write_jsonl(records)}]", "selector.penalty=0.5"]

    def limited(size: int, folder: str) -> subprocess.CompletedProcess[str]:
        """With files that can be no larger, as on a full disk."""
        return subprocess.run(
            [sys.executable, "-c", LIMITED, str(size), *options, f"hydra.run.dir={folder}"],
            cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "SPICE_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip

    for size, folder, place in (
        (100_000, "one", "cache/gradients/"),
        (2**30, "two", ""),
        (16_000, "three", "/three"),
    ):
        done = limited(size, folder)
        assert (done.returncode, done.stderr.count("\n")) == (2 if place else 0, bool(place)), (
            done.stderr
        )
        if place:
            assert place in done.stderr
            assert re.search(r"File too large \([\d.]+ [GT]B free of", done.stderr)
    assert not list((tmp_path / "cache").rglob("*.partial"))


@pytest.mark.slow
def test_a_locale_without_unicode_loses_nothing(
    write_jsonl: Callable[..., Path], records: list[Any], tmp_path: Path
) -> None:
    told = [{**row, "response": f"{row['response']} – Grüße, 你好"} for row in records]
    pool = tmp_path / "pool.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in told]
    pool.write_text("\n".join(lines), encoding="utf-8")
    arguments = ["data=jsonl", f"data.paths=[{pool}]", "selector=random", "finetune=none",
                 "benchmarks=none", "logger=csv", "hydra.run.dir=run"]  # fmt: skip
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "spice", *arguments], cwd=tmp_path, capture_output=True,
        env={**os.environ, **plain, "SPICE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    chosen = (tmp_path / "run/selected.jsonl").read_text(encoding="utf-8")
    assert chosen.count("Grüße, 你好") == 4
