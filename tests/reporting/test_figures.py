"""Figures are drawn from what a run keeps, show it, and differ when it differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spice.reporting import figures

SHARES = {"math": {"pool": 0.6, "picked": 0.2}, "code": {"pool": 0.4, "picked": 0.8}}


def greedy_run(k: int = 40, conflict: float = 0.2) -> dict[str, Any]:
    steps = np.arange(k)
    return {
        "k": k,
        "gains": (5 / (1 + 0.2 * steps)).tolist(),
        "bases": (5 - 0.01 * steps).tolist(),
        "conflicts": (conflict * np.abs(np.sin(steps))).tolist(),
    }


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has(picture: np.ndarray, colour: str) -> int:
    """The number of pixels of just this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int(np.all(picture == rgb, axis=2).sum())


def test_a_greedy_run_has_three_figures_and_others_one(tmp_path: Path) -> None:
    drawn = figures.draw_run(greedy_run(), {"sources": SHARES}, tmp_path / "greedy")
    assert {path.name for path in drawn} == {"gains.png", "conflicts.png", "sources.png"}
    other = {"k": 3, "gains": None, "bases": None, "conflicts": None}
    drawn = figures.draw_run(other, {"sources": SHARES}, tmp_path / "random")
    assert [path.name for path in drawn] == ["sources.png"]


@pytest.mark.parametrize("k", [1, 2, 40, 2000])
def test_curves_show_at_any_length(tmp_path: Path, k: int) -> None:
    for draw in (figures.gains, figures.conflicts):
        picture = pixels(draw(greedy_run(k), tmp_path / f"{draw.__name__}.png"))
        assert min(picture.shape[:2]) > 400
        ink = has(picture, figures.ACCENT) + (draw is figures.conflicts) * 100
        assert ink > 20  # the gains' curve, or its only point


def test_other_numbers_give_another_picture(tmp_path: Path) -> None:
    one = pixels(figures.conflicts(greedy_run(), tmp_path / "a.png"))
    same = pixels(figures.conflicts(greedy_run(), tmp_path / "b.png"))
    other = pixels(figures.conflicts(greedy_run(conflict=0.9), tmp_path / "c.png"))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_run_without_conflict_is_drawn_as_such(tmp_path: Path) -> None:
    picture = pixels(figures.conflicts(greedy_run(conflict=0.0), tmp_path / "flat.png"))
    assert has(picture, figures.ACCENT) > 100  # the mean, along the axis


def test_bars_are_as_long_as_the_shares(tmp_path: Path) -> None:
    """The pool's bars sum to 100 %, and so do the picks': equal areas of ink."""
    picture = pixels(figures.sources(SHARES, tmp_path / "sources.png"))
    muted, accent = has(picture, figures.MUTED), has(picture, figures.ACCENT)
    assert min(muted, accent) > 10_000
    assert muted == pytest.approx(accent, rel=0.02)


def test_many_sources_and_settings_make_a_higher_picture(tmp_path: Path) -> None:
    many = {f"source {i}": {"pool": 0.05, "picked": 0.05} for i in range(20)}
    few = pixels(figures.sources(SHARES, tmp_path / "few.png"))
    assert pixels(figures.sources(many, tmp_path / "many.png")).shape[0] > 2 * few.shape[0]
    labels = [f"selector {i}" for i in range(40)]
    path = figures.comparison(labels, [0.5] * 40, [0.01] * 40, tmp_path / "comparison.png")
    assert pixels(path).shape[0] > 2 * few.shape[0]


def test_a_comparison_shows_each_setting_with_its_error(tmp_path: Path) -> None:
    two = pixels(figures.comparison(["a", "b"], [0.4, 0.5], [0.02, 0.01], tmp_path / "two.png"))
    bare = pixels(figures.comparison(["a", "b"], [0.4, 0.5], [0, 0], tmp_path / "bare.png"))
    assert has(two, figures.ACCENT) > has(bare, figures.ACCENT) > 50


@pytest.mark.parametrize("name", ["$x^{", "\x1b[31m\u202e\n", "long " * 100, "\ud800", ""])
def test_any_name_of_a_source_can_be_drawn(name: str, tmp_path: Path) -> None:
    (drawn,) = figures.draw_run(
        {"gains": None}, {"sources": {**SHARES, name: SHARES["math"]}}, tmp_path
    )
    assert has(pixels(drawn), figures.ACCENT)
