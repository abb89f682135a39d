"""Run folders to one table: which runs belong together, and how sure their mean is."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from spice.errors import InputError
from spice.pipeline.callback import MultirunTable
from spice.reporting.tables import as_csv, collect, compare, header, markdown, text_table, verdicts


def result(
    selector: str = "spice",
    seed: int = 0,
    budget: float = 0.1,
    k: int = 12,
    overrides: tuple[str, ...] = (),
    **scores: tuple[float, float | None] | None,
) -> dict[str, Any]:
    """What a run leaves; a benchmark given as None was skipped."""
    scores = scores or {"gsm8k": (0.5, 0.05), "arc": (0.7, 0.01)}
    known = [pair[0] for pair in scores.values() if pair]
    return {
        "folder": "nowhere",
        "selector": selector,
        "budget": budget,
        "k": k,
        "seed": seed,
        "scores": {
            name: {"value": pair[0] if pair else None, "stderr": pair[1] if pair else None}
            for name, pair in scores.items()
        },
        "average": sum(known) / len(known) if known else None,
        "overrides": [f"selector={selector}", f"seed={seed}", f"budget={budget}", *overrides],
    }


def test_one_seed_has_the_benchmarks_own_standard_errors() -> None:
    (line,) = compare([result()])
    assert line.seeds == [0]
    assert (line.scores["gsm8k"].value, line.scores["gsm8k"].error) == (0.5, 0.05)
    assert line.average.value == pytest.approx(0.6)
    assert line.average.error == pytest.approx(math.hypot(0.05, 0.01) / 2)


def test_several_seeds_have_the_standard_error_over_seeds() -> None:
    values = [0.4, 0.5, 0.9]
    runs = [result(seed=s, gsm8k=(v, 0.3), arc=(0.2, 0.3)) for s, v in enumerate(values)]
    (line,) = compare(runs[::-1])
    assert line.seeds == [0, 1, 2]
    assert line.scores["gsm8k"].value == pytest.approx(0.6)
    assert line.scores["gsm8k"].error == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert line.scores["arc"].error == pytest.approx(0, abs=1e-12)
    averages = [(v + 0.2) / 2 for v in values]
    assert line.average.value == pytest.approx(np.mean(averages))
    assert line.average.error == pytest.approx(np.std(averages, ddof=1) / math.sqrt(3))


def test_experiments_that_differ_in_nothing_that_is_shown_stand_apart() -> None:
    runs = [result(overrides=(f"experiment={name}",)) for name in ("a", "b")]
    assert [line.label["experiment"] for line in compare(runs)] == ["a", "b"]
    assert "experiment" not in compare(runs[:1])[0].label  # one alone goes without saying


def test_runs_that_differ_in_more_than_the_seed_stand_apart() -> None:
    runs = [
        result("spice", overrides=("selector.penalty=0.1",)),
        result("spice", overrides=("selector.penalty=0.5",)),
        result("random"),
        result("random", seed=1),
        result("random", budget=0.05, k=6),
    ]
    lines = compare(runs)
    assert [len(line.seeds) for line in lines] == [1, 1, 2, 1]
    assert [line.label.get("selector.penalty") for line in lines] == ["0.1", "0.5", None, None]


def test_the_order_of_overrides_does_not_part_runs() -> None:
    one = result(seed=0, overrides=("a=1", "b=2"))
    other = result(seed=1, overrides=("b=2", "a=1"))
    assert len(compare([one, other])) == 1


def test_a_repeated_seed_is_no_further_evidence() -> None:
    """``full`` swept over budgets is one run many times, and has no spread over seeds."""
    lines = compare([result("full", budget=1.0, k=120) for _ in range(3)])
    assert [line.seeds for line in lines] == [[0]]
    assert lines[0].scores["gsm8k"].error == 0.05


def test_seeds_that_stop_at_different_counts_are_one_setting() -> None:
    (line,) = compare([result(seed=0, k=11), result(seed=1, k=14), result(seed=2, k=12)])
    assert line.label["k"] == "11–14"
    assert compare([result(k=7)])[0].label["k"] == "7"


def test_options_that_do_not_vary_are_not_shown() -> None:
    same = ("finetune=paper",)
    lines = compare([result("spice", overrides=same), result("random", overrides=same)])
    assert header(lines) == ["selector", "budget", "k", "seeds", "average", "gsm8k", "arc"]


def test_skipped_benchmarks_count_nowhere_as_zero() -> None:
    (line,) = compare([result(gsm8k=(0.5, 0.1), humaneval=None)])
    assert line.scores["humaneval"].value is None
    assert str(line.scores["humaneval"]) == "skipped"
    assert (line.average.value, line.average.error) == (0.5, pytest.approx(0.1))

    runs = [result(seed=s, gsm8k=(0.5, 0.1), mbpp=(0.8, 0.1) if s else None) for s in range(3)]
    (line,) = compare(runs)
    assert line.scores["mbpp"].value == pytest.approx(0.8)
    assert line.scores["mbpp"].error == pytest.approx(0)

    (line,) = compare([result(humaneval=None)])
    assert line.average.value is None


def test_an_unknown_standard_error_is_left_out() -> None:
    (line,) = compare([result(gsm8k=(0.5, 0.1), mbpp=(0.3, None))])
    assert str(line.scores["mbpp"]) == "30.0"
    assert str(line.average) == "40.0"


PATHS = "data.paths=[a|b.jsonl,c.jsonl]"
LINES = compare(
    [
        result("spice", overrides=(PATHS,), gsm8k=(0.51234, 0.05), mbpp=None),
        result("random", gsm8k=(0.4, None), mbpp=(0.25, 0.01)),
    ]
)  # fmt: skip


def test_csv_parses_back_to_the_numbers() -> None:
    spice, random = csv.DictReader(io.StringIO(as_csv(LINES)))
    assert spice["selector"] == "spice"
    assert spice["data.paths"] == "[a|b.jsonl,c.jsonl]"
    assert (float(spice["gsm8k"]), float(spice["gsm8k_stderr"])) == (0.51234, 0.05)
    assert (spice["mbpp"], spice["mbpp_stderr"]) == ("", "")
    assert (float(random["average"]), random["average_stderr"]) == (pytest.approx(0.325), "")


def test_markdown_parses_back_to_the_cells() -> None:
    rows = [
        [c.strip().replace("\0", "|") for c in line.replace("\\|", "\0").strip("|").split("|")]
        for line in markdown(LINES).splitlines()
    ]
    columns, rule, spice, random = rows
    assert set(rule) == {"---"}
    assert len({len(row) for row in rows}) == 1
    assert dict(zip(columns, spice, strict=True))["data.paths"] == "[a|b.jsonl,c.jsonl]"
    assert dict(zip(columns, spice, strict=True))["gsm8k"] == "51.2 ± 5.0"
    assert dict(zip(columns, spice, strict=True))["mbpp"] == "skipped"
    assert dict(zip(columns, random, strict=True))["gsm8k"] == "40.0"


@pytest.mark.parametrize("count", [1, 3, 30])
def test_the_terminal_s_table_shows_every_cell_whole(count: int) -> None:
    lines = compare([result("spice", overrides=(f"selector.penalty={i}",)) for i in range(count)])
    text = text_table(lines, "Scores")
    assert text.count("50.0 ± 5.0") == text.count("60.0 ± 2.5") == count
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 150


def test_a_multirun_leaves_its_table_and_figure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(12):
        folder = tmp_path / str(i)
        folder.mkdir()
        found = result(f"s{i}") if i != 3 else result("s3", gsm8k=None)
        (folder / "results.json").write_text(json.dumps(found))
    assert [r["selector"] for r in collect(tmp_path)] == [f"s{i}" for i in range(12)]
    with caplog.at_level(logging.INFO, logger="spice"):
        MultirunTable().on_multirun_end(
            OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
        )
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {
        "table.md", "table.csv", "comparison.png",
    }  # fmt: skip
    assert "one seed" in caplog.text
    assert str(tmp_path / "table.md") in caplog.text


def test_a_multirun_without_results_leaves_nothing(tmp_path: Path) -> None:
    MultirunTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert not list(tmp_path.iterdir())


def answered(folder: Path, share: float, **named: Any) -> dict[str, Any]:
    """A result whose run has left its answers: a share of 200 items right, the first ones."""
    (folder / "samples").mkdir(parents=True)
    values = [float(i < share * 200) for i in range(200)]
    lines = (json.dumps({"task": "gsm8k", "id": i, "value": v}) for i, v in enumerate(values))
    (folder / "samples" / "gsm8k.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {**result(**named, gsm8k=(share, 0.03)), "folder": str(folder)}


def test_every_selector_stands_beside_the_uniform_draw(tmp_path: Path) -> None:
    shares = {"random": 0.6, "spice": 0.4, "spice_consensus": 0.8, "fisher": 0.61}
    runs = [answered(tmp_path / name, share, selector=name) for name, share in shares.items()]
    runs.append(answered(tmp_path / "full", 0.7, selector="full", k=120, budget=1.0))
    found = verdicts(compare(runs))  # nothing of the other number of rows
    below, above, level = (one.sentence for one in found)
    assert [(one.line, one.draw) for one in found] == [(1, 0), (2, 0), (3, 0)]
    assert below.startswith("spice is below a uniform draw (-20.0 points, 95 % interval -2")
    assert above.startswith("spice_consensus is above a uniform draw (+20.0 points")
    assert level.startswith("No difference shown between fisher and a uniform draw (+1.0 points")
    assert all("by Holm for 3 comparisons; one seed, its luck not counted" in one
               for one in (below, above, level))  # fmt: skip


def test_a_verdict_names_the_budget_where_there_are_several(tmp_path: Path) -> None:
    runs = [
        answered(tmp_path / f"{name}{k}", share, selector=name, budget=k)
        for name, share in (("random", 0.5), ("spice", 0.9))
        for k in (0.1, 0.2)
    ]
    told = [one.sentence for one in verdicts(compare(runs))]
    assert [one.split(" is ")[0] for one in told] == ["spice budget=0.1", "spice budget=0.2"]


def test_without_a_uniform_draw_or_answers_there_is_no_verdict(tmp_path: Path) -> None:
    draw = answered(tmp_path / "draw", 0.5, selector="random", budget=0.1)
    assert verdicts(compare([draw])) == []
    assert verdicts(compare([draw, result("spice")])) == []  # it has left no answers
    other = answered(tmp_path / "other", 0.5, selector="spice", budget=0.2)
    assert verdicts(compare([draw, other])) == []


@pytest.mark.parametrize("text", ['{"selector": "spice", "scores": {}}', "{", "[]"])
def test_results_of_another_version_meet_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json: (has no average, budget|no results)"):
        collect(tmp_path)
