"""``selector.partitions`` in a run: what it is taken for, told, keyed, planned and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spice.errors import InputError
from spice.selectors import problem

Run = Callable[..., dict[str, Any]]
QUICK = ["finetune=none", "benchmarks=none"]


def selection(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "selection.json").read_text(encoding="utf-8"))


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts fit in the half of it, and one greedy does not."""
    monkeypatch.setattr(problem, "PLENTY", 0)
    monkeypatch.setattr(problem, "memory", lambda: 2 * 8_000)


def test_parts_are_told_everywhere(
    start: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "spice")
    start(*QUICK, "selector.partitions=2")
    facts = selection(tmp_path / "run0")["partitions"]
    assert (facts["count"], facts["asked"]) == (2, 2)
    assert facts["union"] == 16  # eight of each part
    card = (tmp_path / "run0" / "card.md").read_text(encoding="utf-8")
    for text in (card, caplog.text):
        assert "wo rounds over 2 parts" in text
        assert "in expectation over the parts" in text


@pytest.mark.slow
def test_what_auto_stands_for_is_in_the_key_and_not_the_word(start: Run, tmp_path: Path) -> None:
    keys = [
        start(*QUICK, f"selector.partitions={given}")["keys"]["selection"]
        for given in ("auto", 1, 2)
    ]
    assert keys[0] == keys[1] != keys[2]
    told = [selection(tmp_path / f"run{i}")["partitions"] for i in range(3)]
    assert [facts["asked"] for facts in told] == ["auto", 1, 2]
    assert told[0]["count"] == told[1]["count"] == 1
    assert "wo rounds" not in (tmp_path / "run0" / "card.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
def test_auto_takes_as_few_parts_as_fit(start: Run, tmp_path: Path) -> None:
    start(*QUICK)
    facts = selection(tmp_path / "run0")
    assert (facts["partitions"]["count"], facts["partitions"]["asked"]) == (2, "auto")
    start(*QUICK, "selector.partitions=2")
    assert selection(tmp_path / "run1")["ids"] == facts["ids"]
    folder = tmp_path / "plan"
    start("plan=true", *QUICK, "selector.penalty=0.7", folder=folder)
    planned = {(s["stage"], s["there"]) for s in json.loads((folder / "plan.json").read_text())}
    assert {("greedy", True), ("greedy", False)} <= planned  # λ = 0 is kept


def test_what_fits_in_no_parts_is_refused_before_anything_is_read(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "PLENTY", 1_000)
    monkeypatch.setattr(problem, "memory", lambda: 1_000)
    with pytest.raises(InputError, match=r"^selector\.partitions=auto: 8 picks of 40 rows take"):
        start(*QUICK)
    assert not (tmp_path / "cache" / "gradients").exists()
    start(*QUICK, "selector.partitions=1")
    start(*QUICK, "schedule=pools", "schedule.pool_size=8")  # a window is small


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "true", "some", "null"])
def test_what_is_no_number_of_parts_is_refused(given: str, start: Run) -> None:
    with pytest.raises(InputError, match=r"selector\.partitions=.*whole number of at least 1, or"):
        start(*QUICK, f"selector.partitions={given}")


def test_windows_have_no_parts(start: Run) -> None:
    with pytest.raises(InputError, match=r"selector\.partitions above 1 needs schedule=global"):
        start(*QUICK, "schedule=pools", "selector.partitions=2")


def test_weighed_rows_and_their_mix_go_in_parts_too(start: Run, tmp_path: Path) -> None:
    start(*QUICK, "selector=spice_consensus", "selector.partitions=2")
    facts = selection(tmp_path / "run0")
    assert facts["partitions"]["count"] == 2
    assert facts["certificate"]["in_expectation"]["fraction"] == 0.25  # in rooms
    assert len(facts["without_weights"]) == facts["k"]
