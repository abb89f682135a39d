"""The study on real rows: what is drawn and broken, and what its two files say."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from experiments.real import choices, pool, report, tuning
from experiments.real.choices import CLEAN, METHODS, Choice
from experiments.real.tuning import Loss
from spice.data.identity import identify
from spice.records import Row

ANSWER = "The sum of two and three is five, as anybody can see."


def rows(count: int) -> list[Row]:
    return identify(Row("", f"ask {i}", "", f"{ANSWER} Number {i}.", "lima") for i in range(count))


def test_every_way_of_breaking_an_answer_leaves_something_else() -> None:
    for way in pool.WAYS:
        broken = pool.break_answer(ANSWER, way, Random(0), "Another answer.")
        assert broken
        assert broken != ANSWER
    assert sorted(pool.break_answer(ANSWER, "shuffled", Random(0), "").split()) == sorted(
        ANSWER.split()
    )
    cut = pool.break_answer(ANSWER, "cut", Random(0), "")
    assert ANSWER.startswith(cut)
    assert not cut[-1].isspace()
    assert not ANSWER[len(cut)].isspace()


def test_a_planting_breaks_fifty_rows_in_five_ways_alike() -> None:
    given = rows(120)
    planting = pool.plant(given, 3)
    assert len(planting.rows) == len(set(planting.twin_of.values())) == 50
    ways = [planting.way[row.id] for row in planting.rows]
    assert {way: ways.count(way) for way in pool.WAYS} == dict.fromkeys(pool.WAYS, 10)
    by_id = {row.id: row for row in given}
    for twin in planting.rows:
        original = by_id[planting.twin_of[twin.id]]
        assert twin.prompt == original.prompt
        assert twin.response != original.response
    assert pool.plant(given, 3) == planting
    assert pool.plant(given, 4) != planting


@pytest.mark.real
def test_the_real_parts_share_no_row(real_data: Path) -> None:
    parts = pool.draw()
    ids = [row.id for part in (parts.pool, parts.held_out, parts.examples) for row in part]
    assert len(ids) == len(set(ids)) == 1260
    assert {row.source for row in parts.held_out} == set(pool.FILES)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes(method: str) -> None:
    assert choices.selector(METHODS[method]).select


def test_choices_and_losses_survive_their_files(tmp_path: Path) -> None:
    chosen = [Choice("planted 0", "spice", 0, i, f"id{i}", "lima", 7, "cut" * i) for i in (0, 1)]
    choices.save(chosen, tmp_path / "choices.csv")
    assert choices.load(tmp_path / "choices.csv") == chosen
    found = [Loss("spice", 1, "id", "lima", 1.25)]
    tuning.save(found, tmp_path / "losses.csv")
    assert tuning.load(tmp_path / "losses.csv") == found
    assert choices.load(tmp_path / "none.csv") == tuning.load(tmp_path / "none.csv") == []


def test_the_bootstrap_is_paired_and_weighs_sources_alike() -> None:
    theirs = {"a": {"1": 1.0, "2": 5.0}, "b": {"3": 2.0}}
    ours = {"a": {"1": 1.2, "2": 5.2}, "b": {"3": 2.4}}
    mean, low, high = report.bootstrap(ours, theirs)
    assert (mean, low, high) == pytest.approx((0.3, 0.3, 0.3))


def test_the_report_counts_broken_rows_by_planting(tmp_path: Path) -> None:
    chosen = [
        Choice(f"planted {p}", "spice", 0, i, f"{p}{i}", "lima", 7, "cut" if i <= p else "")
        for p in (0, 1)
        for i in range(4)
    ]
    chosen += [Choice(CLEAN, "spice", 0, i, str(i), "lima", 7, "") for i in range(4)]
    choices.save(chosen, tmp_path / "choices.csv")
    assert report.broken_shares(chosen) == {"spice": [25.0, 50.0]}
    report.write(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| spice | 2 | 37.5 ±" in text
    assert "Not measured yet." in text
    assert (tmp_path / "planted.png").stat().st_size > 5_000
