"""Development examples: where they come from, and that no test item is among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compose import composed

from spice.errors import InputError
from spice.evaluation.benchmarks import Suite
from spice.evaluation.development import BenchmarkExamples, FileExamples
from spice.pipeline.components import make
from spice.sandbox.items import items
from spice.sandbox.language import Split
from spice.sandbox.skills import SKILLS


def suite(*overrides: str) -> Suite:
    made = make(composed(*overrides), "benchmarks")
    assert isinstance(made, Suite)
    return made


def test_the_sandboxs_examples_are_of_its_validation_split(tmp_path: Path) -> None:
    rows = BenchmarkExamples(8).rows(suite(), tmp_path)
    tasks = {row.source for row in rows}
    assert len(tasks) == 10  # eight benchmarks, two of them in two parts
    assert len(rows) == 80
    prompts = {row.instruction for row in rows}
    splits: list[tuple[Split, bool]] = [("validation", True), ("test", False)]
    for split, inside in splits:
        known = {
            item["prompt"]: item["reference"]
            for skills in _skills()
            for item in items(skills, split, 120)
        }
        assert (prompts <= set(known)) is inside
        assert bool(prompts & set(known)) is inside
        if inside:
            assert all(known[row.instruction] == row.response for row in rows)


def _skills() -> list[list[str]]:
    asked = [["gain", "loss", "gain_and_loss"], ["greet", "repeat"]]
    return asked + [[name] for name in SKILLS if name not in {s for group in asked for s in group}]


def test_a_split_that_is_scored_gives_no_examples(tmp_path: Path) -> None:
    scored = suite("benchmarks.only=[gsm8k]", "benchmarks.tasks.gsm8k.split=validation")
    with pytest.raises(InputError, match="no development examples"):
        BenchmarkExamples(8).rows(scored, tmp_path)
    with pytest.raises(InputError, match="no development examples"):
        BenchmarkExamples(8).rows(suite("benchmarks=none"), tmp_path)


@pytest.mark.slow
def test_the_papers_benchmarks_give_examples_that_are_no_test_items(
    real_data: Path, tmp_path: Path
) -> None:
    from datasets import load_dataset

    mirror = real_data / "benchmarks"
    paper = suite(
        "benchmarks=paper", f"benchmarks.mirror={mirror}", "benchmarks.allow_code_execution=true"
    )
    rows = BenchmarkExamples(5).rows(paper, tmp_path)
    families = {row.source.split("/")[0] for row in rows}
    assert families == {"gsm8k", "bbh", "mmlu", "arc_challenge", "mbpp"}  # others are all test
    test = load_dataset(str(mirror / "openai/gsm8k"), "main", split="test")["question"]
    asked = [row.instruction for row in rows if row.source == "gsm8k/gsm8k"]
    assert not any(question in prompt for question in test for prompt in asked)
    test = load_dataset(str(mirror / "allenai/ai2_arc"), "ARC-Challenge", split="test")["question"]
    asked = [row.instruction for row in rows if row.source.startswith("arc")]
    assert not any(question in prompt for question in test for prompt in asked)


def test_rows_of_files_keep_their_subtask(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    row = {"instruction": "Add 1 and 2.", "input": "", "response": "3", "source": "sums"}
    path.write_text(json.dumps(row) + "\n")
    [found] = FileExamples([str(path)]).rows(suite("benchmarks=none"), tmp_path)
    assert (found.source, found.response) == ("sums", "3")


def test_no_examples_per_task_is_refused() -> None:
    with pytest.raises(InputError, match=r"^per_task=0"):
        BenchmarkExamples(0)
