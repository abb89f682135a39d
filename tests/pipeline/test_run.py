"""The stages together: what is reused, what is written, what a second run repeats."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halves import slow_but

from spice.errors import InputError
from spice.pipeline import run_folder
from spice.pipeline.budget import resolve_budget

Run = Callable[..., dict[str, Any]]


def test_a_run_folder_holds_what_was_promised(start: Run, tmp_path: Path) -> None:
    results = start()
    folder = tmp_path / "run0"
    selection = json.loads((folder / "selection.json").read_text())
    chosen = [json.loads(line) for line in (folder / "selected.jsonl").read_text().splitlines()]
    assert (results["n"], results["k"], selection["n"], selection["k"]) == (40, 8, 40, 8)
    assert [row["id"] for row in chosen] == selection["ids"]
    assert selection["config"]["selector"]["penalty"] == 0.1
    assert selection["information"] == pytest.approx(sum(selection["gains"]))
    for name in ("config.yaml", "audit.json", "adapter/adapter_model.safetensors"):
        assert (folder / name).is_file(), name
    assert {path.name for path in (folder / "figures").iterdir()} >= {"gains.png", "conflicts.png"}
    keys = (
        "selector budget k n seed model proxy scores average seconds reused versions git hardware"
    )
    assert set(keys.split()) <= set(results)


def test_the_same_configuration_again_reuses_every_stage(start: Run, tmp_path: Path) -> None:
    first, second = start(), start()
    assert first["reused"] == []
    assert second["reused"] == ["gradients", "selection", "finetune"]
    assert second["paid"] == first["paid"]  # as if it had been alone
    assert first["paid"].keys() == {"gradients", "selection", "finetune"}
    assert first["paid"]["gradients"] == pytest.approx(first["seconds"]["gradients"], abs=0.01)
    one, two = ((tmp_path / f"run{i}" / "selection.json").read_bytes() for i in (0, 1))
    assert one == two


CHANGES = [
    ("selector.penalty=0.7", ["gradients"]),
    ("gradients.reduction=sum", []),
    ("gradients.batch_size=3", ["gradients", "selection", "finetune"]),
    ("selector.scale=unit", ["gradients"]),
    ("finetune.learning_rate=1e-3", ["gradients", "selection"]),
    ("template.user='Q: {content} '", []),
    ("seed=1", ["gradients"]),
    ("data.limit=30", []),
]


@pytest.mark.parametrize(("change", "reused"), slow_but(CHANGES, CHANGES[:1]))
def test_a_change_makes_anew_just_what_depends_on_it(
    start: Run, change: str, reused: list[str]
) -> None:
    start()
    found = start(change)["reused"]
    # An unchanged choice of rows is trained on once, whichever setting chose it.
    assert [stage for stage in found if stage != "finetune" or stage in reused] == reused


@pytest.mark.slow
def test_a_changed_row_a_changed_weight_and_changed_code_reuse_nothing(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    pool = tmp_path / "pool.jsonl"
    pool.write_text(pool.read_text().replace("Say red", "Say rot", 1))
    assert start()["reused"] == []
    monkeypatch.setattr("spice.__version__", "999")
    assert start()["reused"] == []


def test_no_run_is_written_over(start: Run, tmp_path: Path) -> None:
    start()
    before = (tmp_path / "run0" / "results.json").read_bytes()
    with pytest.raises(InputError, match=r"finished run with other selector.*hydra\.run\.dir"):
        start("selector.penalty=0.7", folder=tmp_path / "run0")
    with pytest.raises(InputError, match="finished run"):
        start("plan=true", folder=tmp_path / "run0")
    assert (tmp_path / "run0" / "results.json").read_bytes() == before


def test_a_run_that_is_finished_gives_its_results_at_once(
    start: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    shutil.rmtree(tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run0").rglob("*")}
    caplog.clear()
    with caplog.at_level("INFO", "spice"):
        assert start("trainer.progress=true", folder=tmp_path / "run0") == first
    assert "holds this run's results already" in caplog.records[-1].message
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run0").rglob("*")} == files
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"rows", "weights"}


def test_a_finished_run_is_not_given_for_other_rows_or_weights(
    start: Run, tmp_path: Path, make_checkpoint: Any, write_jsonl: Any, records: list[Any]
) -> None:
    pool, model = write_jsonl(records, "mine.jsonl"), tmp_path / "model"
    shutil.copytree(make_checkpoint("qwen2"), model)
    given = [f"data.paths=[{pool}]", f"model.path={model}", "selector=random"]
    start(*given)
    write_jsonl([{**records[0], "response": "another answer"}, *records[1:]], "mine.jsonl")
    with pytest.raises(InputError, match="but the pool changed since"):
        start(*given, folder=tmp_path / "run0")
    write_jsonl(records, "mine.jsonl")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(InputError, match="but the weights of the model changed since"):
        start(*given, folder=tmp_path / "run0")


@pytest.mark.parametrize("name", ["results.json", "config.yaml"])
def test_a_damaged_run_folder_is_named(start: Run, tmp_path: Path, name: str) -> None:
    start("selector=random", "finetune=none")
    for content in (b"{", b"", b"\xff\xfe"):
        (tmp_path / "run0" / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} is damaged; delete {tmp_path}/run0"):
            start("selector=random", "finetune=none", folder=tmp_path / "run0")


def test_random_and_full_read_no_proxy(start: Run) -> None:
    results = start("selector=random", "proxy.path=/nowhere")
    assert (results["k"], results["proxy"]) == (8, None)
    assert start("selector=full", "proxy.path=/nowhere")["k"] == 40


def test_the_order_of_picking_changes_no_tuning(start: Run) -> None:
    start("selector=full")
    assert start("selector=random", "budget=1.0")["reused"] == ["finetune"]


def test_none_chooses_nothing_and_leaves_the_model_untuned(start: Run, tmp_path: Path) -> None:
    results = start("selector=none", "proxy.path=/nowhere")
    assert (results["k"], results["budget"], results["n"]) == (0, 0.0, 40)
    assert not (tmp_path / "run0" / "adapter").exists()
    assert (tmp_path / "run0" / "selected.jsonl").read_text() == ""


def test_rows_that_the_chat_template_does_not_write_are_refused_or_skipped(
    start: Run, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(make_checkpoint(), tmp_path / "picky")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }}\n{% endfor %}",
        encoding="utf-8",
    )
    rows = [{"instruction": f"Say {i}", "response": f"{i}"} for i in range(8)]
    rows[2]["system"] = "Shout."
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ["data=jsonl", f"data.paths=[{path}]", "budget=7",
               f"proxy.path={folder}", f"model.path={folder}"]  # fmt: skip
    with pytest.raises(InputError, match=r"1 of 8 rows cannot be written in full: row 3 \("):
        start(*options)
    assert start(*options, "data.on_bad_row=skip")["k"] == 7
    audit = json.loads((tmp_path / "run1" / "audit.json").read_text(encoding="utf-8"))
    [(lost, why)] = audit["proxy"]["lost_rows"].items()
    chosen = json.loads((tmp_path / "run1" / "selection.json").read_text(encoding="utf-8"))["ids"]
    assert len(chosen) == 7
    assert lost not in chosen
    assert "no system" in why
    assert start(*options, "template.system_turn=user", "budget=8")["k"] == 8


def test_a_finite_pool_with_unsupervised_rows_is_chosen_from_the_rest(
    start: Run, tmp_path: Path
) -> None:
    results = start("template.max_tokens=54", "budget=5")
    audit = json.loads((tmp_path / "run0" / "audit.json").read_text())["proxy"]
    chosen = json.loads((tmp_path / "run0" / "selection.json").read_text())["ids"]
    assert 0 < audit["unsupervised_rows"] == len(audit["unsupervised_ids"]) < 40
    assert not set(chosen) & set(audit["unsupervised_ids"])
    assert results["k"] == 5


def test_the_untuned_model_is_scored_without_an_adapter(start: Run, tmp_path: Path) -> None:
    start("finetune=none")
    assert not (tmp_path / "run0" / "adapter").exists()


@pytest.mark.parametrize(
    ("budget", "k"), [(0.1, 4), (1.0, 40), (0.001, 1), (1, 1), (40, 40), (0.2625, 10)]
)
def test_budget_is_a_share_or_a_count(budget: float, k: int) -> None:
    assert resolve_budget(budget, 40) == k


@pytest.mark.parametrize("budget", [0, 0.0, -1, -0.5, 1.5, 41, "ten", None, True, float("nan")])
def test_an_impossible_budget_is_refused(budget: Any) -> None:
    with pytest.raises(InputError, match="budget"):
        resolve_budget(budget, 40)


# -- what is on record of a run --------------------------------------------------------------


def test_every_step_and_signal_and_benchmark_has_its_key(start: Run) -> None:
    asked = ["selector=ifd", "benchmarks=sandbox", "benchmarks.limit=2"]
    first, again = start(*asked), start(*asked)
    assert set(first["keys"]) == {"losses", "selection", "finetune", "scores"}
    assert set(first["keys"]["scores"]) == set(first["scores"])
    assert len(set(first["keys"]["scores"].values())) == len(first["scores"])
    assert again["keys"] == first["keys"]
    assert again["reused"] == ["losses", "selection", "finetune", "scores"]


def test_each_benchmark_is_scored_by_one_run_alone(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spice.evaluation import evaluation

    evaluate, waiting = evaluation.evaluate, []

    def watched(*given: Any, **more: Any) -> None:
        """Another run would have to wait now, and finds the score later."""
        waiting.extend(lock.stem for lock in (tmp_path / "cache/scores").glob("*.locked"))
        evaluate(*given, **more)

    monkeypatch.setattr(evaluation, "evaluate", watched)
    asked = ["selector=random", "finetune=none", "benchmarks=sandbox", "benchmarks.limit=1",
             "benchmarks.only=[mmlu,gsm8k]"]  # fmt: skip
    results = start(*asked)
    assert sorted(waiting) == sorted(results["keys"]["scores"].values())
    assert start(*asked)["scores"] == results["scores"]
    assert len(waiting) == 2


@pytest.mark.slow
def test_each_second_is_charged_once(start: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that takes two seconds to read, for the target too, makes no other step slow."""
    from spice.models import tokenized
    from spice.pipeline import readings

    def slowly(*given: Any) -> tokenized.Tokenized:
        time.sleep(1)
        return tokenized.tokenize(*given)

    monkeypatch.setattr(readings, "tokenize", slowly)
    start("benchmarks=sandbox", "benchmarks.limit=1")  # reads both; what follows reuses all
    began = time.perf_counter()
    seconds = start("benchmarks=sandbox", "benchmarks.limit=1")["seconds"]
    whole = time.perf_counter() - began
    assert seconds["pool"] >= 2
    assert seconds["scores"] < 1
    assert sum(seconds.values()) <= whole


def test_how_often_a_state_is_kept_makes_no_adapter_anew(start: Run) -> None:
    start()
    assert "finetune" in start("finetune.checkpoint_every=1")["reused"]


def test_a_run_folder_in_use_is_refused(start: Run, tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    with run_folder.claimed(folder, {"seed": 0}):
        with pytest.raises(InputError, match="another run is at work"):
            start(folder=folder)
        assert (folder / "config.yaml").read_text() == "seed: 0\n"


def test_an_unfinished_run_is_taken_up_by_its_own_configuration_alone(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr("spice.training.finetune.finetune", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(folder=folder)
    with pytest.raises(InputError, match=r"unfinished run with other seed.*hydra\.run\.dir"):
        start("seed=1", folder=folder)
    assert start("trainer.progress=true", folder=folder)["reused"] == ["gradients", "selection"]


# -- numbers that are none -------------------------------------------------------------------


def test_a_tuning_whose_loss_is_not_finite_stops_and_publishes_nothing(
    start: Run, tmp_path: Path
) -> None:
    rate = "finetune.learning_rate=1e30"
    with pytest.raises(InputError, match=r"the loss of step \d+ is not finite \(rows \w+"):
        start(rate)
    chosen = json.loads((tmp_path / "run0/selection.json").read_text())["ids"]
    with pytest.raises(InputError) as again:  # what was left behind is no way around it
        start(rate)
    assert any(row_id in str(again.value) for row_id in chosen)
    assert not (tmp_path / "run0/adapter").exists()
    assert not (tmp_path / "run0/results.json").exists()
    finished = (tmp_path / "cache/finetune").glob("*/inputs.json")
    assert not list(finished)


@pytest.mark.parametrize("selector", ["spice", "ifd", "dpp", "random", "full"])
def test_a_pool_without_a_usable_row_is_an_error(start: Run, selector: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"selector={selector}: not one of 40 rows can be picked"):
        start(f"selector={selector}", "template.max_tokens=8", "gradients.batch_size=4")
    assert not (tmp_path / "run0/selection.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["schedule=pools", "schedule.pool_size=8", "schedule.refresh_every=1",
         "schedule.learning_rate=1e30"],
        ["selector=lead", "selector.learning_rate=1e30", "budget=20"],
    ],
    ids=["windows", "rounds"],
)  # fmt: skip
def test_a_proxy_that_learned_nonsense_chooses_nothing(
    start: Run, options: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"the loss of (the refresh|window|round) .*is not finite"):
        start(*options, "finetune=none")
    assert not (tmp_path / "run0/selection.json").exists()
