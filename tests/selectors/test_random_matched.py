"""The control copies sources and lengths, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Signals
from spice.selectors.random_matched import RandomMatched

N = 400


def pool(seed: int = 0) -> Signals:
    rng = np.random.default_rng(seed)
    ids = [f"{i:04}" for i in rng.permutation(N)]
    sources = rng.choice(["code", "math", "talk"], N, p=[0.2, 0.3, 0.5]).tolist()
    return Signals(ids, sources, rng.integers(1, 60, N))


def like(folder: Path, ids: list[str]) -> str:
    (folder / "selection.json").write_text(json.dumps({"ids": ids}))
    return str(folder)


def draw(signals: Signals, selector: RandomMatched, k: int, seed: int = 0) -> list[int]:
    eligible = range(len(signals))
    return selector.select(signals, k, np.random.default_rng(seed), eligible).indices


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000))
def test_sources_are_copied_exactly_and_lengths_to_a_class(tmp_path: Path, seed: int) -> None:
    signals = pool(seed)
    longest = np.argsort(-signals.lengths, kind="stable")[:50]  # nothing like a uniform draw
    selector = RandomMatched(like(tmp_path, [signals.ids[i] for i in longest]), 10)
    rows = draw(signals, selector, 50, seed)
    assert len(set(rows)) == 50
    expected = Counter(signals.sources[i] for i in longest)
    assert Counter(signals.sources[i] for i in rows) == expected
    theirs, ours = (signals.lengths[list(r)].mean() for r in (longest, rows))
    assert abs(theirs - ours) < 6  # a class is some 6 tokens wide, the pool's mean is 24 below
    assert theirs - signals.lengths.mean() > 20


def test_the_same_seed_draws_the_same_rows_in_any_order_of_the_pool(tmp_path: Path) -> None:
    signals = pool()
    selector = RandomMatched(like(tmp_path, signals.ids[:40]), 5)
    order = np.random.default_rng(1).permutation(N)
    shuffled = Signals(
        [signals.ids[i] for i in order],
        [signals.sources[i] for i in order],
        signals.lengths[order],
    )
    here = [signals.ids[i] for i in draw(signals, selector, 40)]
    there = [shuffled.ids[i] for i in draw(shuffled, selector, 40)]
    assert here == there
    assert here != [signals.ids[i] for i in draw(signals, selector, 40, seed=1)]


def test_fewer_rows_keep_the_shares(tmp_path: Path) -> None:
    signals = pool()
    selector = RandomMatched(like(tmp_path, signals.ids[:100]), 1)
    whole = Counter(signals.sources[:100])
    half = Counter(signals.sources[i] for i in draw(signals, selector, 50))
    assert all(abs(half[source] - count / 2) < 1 for source, count in whole.items())


@pytest.mark.parametrize(
    ("content", "k", "message"),
    [
        (None, 5, "is no selection"),
        ("{", 5, "is no selection"),
        (json.dumps({"ids": ["0001", "elsewhere"]}), 2, "1 of its rows are not in this pool"),
        (json.dumps({"ids": ["0001"]}), 2, "has 1 rows, the budget asks for 2"),
    ],
)
def test_what_cannot_be_copied_is_refused(
    tmp_path: Path, content: Any, k: int, message: str
) -> None:
    if content is not None:
        (tmp_path / "selection.json").write_text(content)
    with pytest.raises(InputError, match=message):
        draw(pool(), RandomMatched(str(tmp_path), 10), k)
