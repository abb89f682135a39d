"""The selection card: what it shows, and that a pool's texts cannot break it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Row
from spice.reporting.card import _fence, other_selections, overlap, quantiles, write_card

ROWS = [
    Row(f"{i:02}", f"Question {i}", "", f"Answer {i}", "a" if i % 2 else "b") for i in range(30)
]
LENGTHS = np.arange(1, 31)


def selection(indices: list[int], **fields: Any) -> dict[str, Any]:
    k = len(indices)
    return {
        "selector": "spice",
        "n": len(ROWS),
        "k": k,
        "indices": indices,
        "ids": [ROWS[i].id for i in indices],
        "scores": [1.0 / (t + 1) for t in range(k)],
        "conflicts": [0.25] * k,
        "information": 3.5,
        "without_penalty": None,
        "without_weights": None,
        "partitions": None,
        "certificate": None,
        **fields,
    }


def card(folder: Path, rows: list[Row] = ROWS, **fields: Any) -> tuple[str, str]:
    chosen = selection(fields.pop("indices", list(range(12))), **fields)
    mix = {name: {"pool": 0.5, "picked": 0.25} for name in fields.pop("sources", "ab")}
    report = {"warnings": ["beware"], "sources": mix, "mix_distance": 0.125}
    write_card(folder, rows, LENGTHS, chosen, report, {"other": ["00", "99"]}, 0)
    return (folder / "card.md").read_text(), (folder / "card.html").read_text()


def test_both_cards_show_what_was_chosen_and_why(tmp_path: Path) -> None:
    for text in card(tmp_path, without_penalty=[*range(6), *range(20, 26)]):
        for shown in ("12 of 30 rows", "3.500 nats", "beware", "50 %", "25 %", "conflict 0.250"):
            assert shown in text
        for number in (0, 4, 7, 11):
            assert f"Answer {number}" in text
        assert "Answer 5\n" not in text  # neither among the first five nor among the last
        assert "the same with λ = 0" in text
        assert "0.333" in text  # Jaccard of 6 shared out of 18


def test_the_distance_of_the_mixes_is_shown_where_there_is_more_than_one_source(
    tmp_path: Path,
) -> None:
    for text in card(tmp_path):
        assert "Distance of the two mixes (total variation): 12 %" in text
    for text in card(tmp_path, sources="a"):
        assert "Distance of the two mixes" not in text


def test_both_cards_tell_what_was_not_read(tmp_path: Path) -> None:
    chosen = selection([0, 1])
    report = {"warnings": [], "sources": {}, "mix_distance": None}
    column = {"source": "a|b", "column": "passage", "rows": 7, "label": False, "remedy": "so"}
    label = {"source": "a|b", "column": "id", "rows": 9, "label": True, "remedy": None}
    reading = {"skipped": ["x:1: no"], "changed": {"turns cut": 3}, "unread": [column, label]}
    write_card(tmp_path, ROWS, LENGTHS, chosen, report, {}, 0, None, reading)
    markdown, html = ((tmp_path / f"card.{kind}").read_text() for kind in ("md", "html"))
    assert "| a\\|b | passage | 7 | so |\n| a\\|b | id | 9 | a label |" in markdown
    assert "<td>a|b</td><td>passage</td><td>7</td><td>so</td>" in html
    for text in (markdown, html):
        assert "1 rows were left out" in text
        assert "Turns cut: in 3 rows." in text
    assert all("not read" not in text for text in card(tmp_path))


def test_both_cards_tell_what_the_models_do_not_see(tmp_path: Path) -> None:
    facts = {"rows": 20, "lost_rows": 3, "truncated_rows": 4, "unsupervised_rows": 5,
             "cut_answers": 6, "reasons": {"leaves out <b>": 3}}  # fmt: skip
    report = {"warnings": [], "sources": {}, "mix_distance": None}
    reading = {"audits": {"proxy": facts}}
    write_card(tmp_path, ROWS, LENGTHS, selection([0, 1]), report, {}, 0, None, reading)
    markdown, html = ((tmp_path / f"card.{kind}").read_text() for kind in ("md", "html"))
    assert "| proxy | 20 | 3 | 4 | 5 | 6 |" in markdown
    assert "<td>proxy</td><td>20</td><td>3</td><td>4</td><td>5</td><td>6</td>" in html
    assert "Not written for the proxy, 3 rows: leaves out &lt;b&gt;." in markdown
    assert "Not written for the proxy, 3 rows: leaves out &lt;b&gt;." in html
    assert all("do not see" not in text for text in card(tmp_path))


def test_markdown_in_a_sources_name_stays_text(tmp_path: Path) -> None:
    rows = [replace(row, source="<b>*x*|`y`_z_ a_b") for row in ROWS]
    markdown, _ = card(tmp_path, rows)
    assert "&lt;b&gt;\\*x\\*\\|\\`y\\`" in markdown
    assert "<b>" not in markdown


def test_a_small_selection_shows_each_pick_once(tmp_path: Path) -> None:
    markdown, _ = card(tmp_path, indices=[3, 1])
    assert markdown.count("Answer 3") == markdown.count("Answer 1") == 1
    assert "λ = 0" not in markdown


def test_no_pick_and_no_score_are_shown_as_such(tmp_path: Path) -> None:
    markdown, page = card(tmp_path, indices=[], scores=None, conflicts=None, information=None)
    assert "0 of 30 rows." in markdown
    assert "nats" not in page
    assert "score" not in card(tmp_path, scores=None)[0]


def test_texts_of_a_pool_stay_texts(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>\n```\n# not a heading {{ 7 * 7 }}"
    rows = [Row("00", nasty, "", "x" * 5000, "a"), *ROWS[1:]]
    markdown, page = card(tmp_path, rows=rows, indices=[0])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "````\n<script>" in markdown
    assert "{{ 7 * 7 }}" in markdown
    assert "x" * 600 + " …" in page
    assert "x" * 601 not in page


EVIL = (
    "<script>alert(1)</script>", "</pre><h1>x", "![x](https://a.example/x.png)", "a | b\n| c |",
    "``` \n```\n# x", "<!--", "\x1b[31mred\x1b[0m", "\u202ereversed", "a\rb", "{{ 7 * 7 }}",
)  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_names_of_sources_selectors_and_folders_stay_texts_too(evil: str, tmp_path: Path) -> None:
    rows = [Row("00", f"Say {evil}", "", evil, evil), *ROWS[1:]]
    chosen = selection([0, 1], selector=evil)
    report = {"warnings": [f"from {evil}"], "sources": {evil: {"pool": 1, "picked": 1}}}
    told = {
        "untrustworthy": 0.1, "not_trusted": 0, "rows": 30, "effective_rows": 3.0,
        "changed_by_weights": 0,
        "by_source": {evil: {"rows": 3, "untrustworthy": 0.1, "median_consensus": 0.1}},
        "least_trusted": [
            {"source": evil, "weight": 0.1, "picked": True, "prompt": evil, "response": evil}
        ],
    }  # fmt: skip
    write_card(
        tmp_path, rows, LENGTHS, chosen, {**report, "mix_distance": 0.0}, {evil: ["00"]}, 0, told
    )
    pages = [(tmp_path / name).read_bytes().decode() for name in ("card.md", "card.html")]
    outside = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", pages[0])
    assert not re.search(r"<script|<h1|<!--|[^\\]\]\(|^# x|^\| c", outside, re.MULTILINE)
    page = TAGS.sub("", pages[1])
    assert not {"<", ">"} & set(page)
    assert "7 * 7" in page or "7 * 7" not in evil
    for text in pages:
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)


#: every tag of the page's own, and what stands in its style
TAGS = re.compile(
    r"<style>.*?</style>|</?(?:!doctype html|html|head|meta|title|body|h1|h2|p|table|tr|th|td|div"
    r"|header|pre)(?: (?:lang|charset|name|content|class)=[^<>]*)?>",
    re.DOTALL,
)


@given(st.text())
def test_a_fence_is_longer_than_any_in_the_text(text: str) -> None:
    ticks = _fence(text).split("\n")[0]
    assert set(ticks) == {"`"}
    assert ticks not in text


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_overlaps_of_equal_sizes_satisfy_the_identity(a: set[int], b: set[int]) -> None:
    found = overlap("", [str(i) for i in a], [str(i) for i in b])
    assert found.of_ours == (len(a & b) / len(a) if a else 0)
    if len(a) == len(b) and a:
        assert found.of_ours == found.of_theirs
        assert found.jaccard == pytest.approx(found.of_ours / (2 - found.of_ours))


def test_lengths_are_told_where_a_model_was_read() -> None:
    found = quantiles(LENGTHS, [0, 1, 2])
    assert found is not None
    assert found["pool"]["median"] == 16
    assert found["picked"] == {
        "shortest": 1, "quarter": 2, "median": 2, "three quarters": 2, "longest": 3,
    }  # fmt: skip
    assert quantiles(np.zeros(5), [0]) is None


def test_other_selections_are_read_from_run_folders(tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text(json.dumps({"ids": ["00"]}))
    assert other_selections([str(tmp_path)]) == {str(tmp_path): ["00"]}
    with pytest.raises(InputError, match=r"card\.compare: .*nowhere"):
        other_selections([str(tmp_path / "nowhere")])
