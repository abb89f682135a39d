"""RDS+ against a worked example and a plain loop, and what must not matter to it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors import rds
from spice.selectors.rds import Rds, nearest_first, turns
from spice.signals.embeddings import Embeddings, TargetEmbeddings, TargetSources


def pick(
    pool: np.ndarray,
    targets: np.ndarray,
    sources: list[str],
    k: int,
    ids: list[str] | None = None,
    eligible: list[int] | None = None,
) -> Selection:
    n = len(pool)
    signals = Signals(
        ids or [f"{i:03}" for i in range(n)],
        ["a"] * n,
        np.ones(n),
        embeddings=np.asarray(pool, dtype=np.float32),
        target_embeddings=np.asarray(targets, dtype=np.float32),
        target_sources=np.array(sources),
    )
    rows = range(n) if eligible is None else eligible
    return Rds().select(signals, k, np.random.default_rng(0), rows)


def cloud(seed: int, n: int = 40, m: int = 5, h: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Small whole numbers: many rows have equal cosines."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, size=(n + m, h))
    vectors[(vectors == 0).all(axis=1)] = 1
    return vectors[:n], vectors[n:]


def plain(
    pool: np.ndarray, targets: np.ndarray, sources: list[str], k: int
) -> list[tuple[int, float]]:
    """As the definition has it, row by row."""
    left, found = list(range(len(pool))), []
    names = list(dict.fromkeys(sources))
    for turn in range(k):
        name, round_ = names[turn % len(names)], turn // len(names)
        own = [target for target, source in zip(targets, sources, strict=True) if source == name]
        target = own[round_ % len(own)]
        cosines = {
            row: round(
                sum(float(a) * float(b) for a, b in zip(pool[row], target, strict=True))
                / float(np.linalg.norm(pool[row]) * np.linalg.norm(target)),
                12,
            )
            for row in left
        }
        best = min(left, key=lambda row: (-cosines[row], row))
        left.remove(best)
        found.append((best, cosines[best]))
    return found


def test_a_worked_example() -> None:
    """Unit vectors at 0°, 10°, 30°, 80°; targets at 0° and 15°, then one of another task at 90°."""
    pool, targets = ([[np.cos(a), np.sin(a)] for a in np.radians(d)]
                     for d in ([0, 10, 30, 80], [0, 15, 90]))  # fmt: skip
    alone = pick(np.array(pool), np.array(targets[:2]), ["a", "a"], 3)
    # 0° takes 0°, 15° takes 10°; 0° would then take 10°, which is gone, and takes 30°.
    assert alone.indices == [0, 1, 2]
    assert alone.scores == pytest.approx(np.cos(np.radians([0, 5, 30])))
    # The other task has every second turn: 80°, and then 30°, the nearest that is left.
    both = pick(np.array(pool), np.array(targets), ["a", "a", "b"], 4)
    assert both.indices == [0, 3, 1, 2]
    assert both.scores == pytest.approx(np.cos(np.radians([0, 10, 5, 60])))


def test_late_tokens_weigh_more_in_pool_and_targets_alike() -> None:
    assert Rds().needs == {
        "embeddings": Embeddings("weighted"),
        "target_embeddings": TargetEmbeddings("weighted"),
        "target_sources": TargetSources(),
    }


def test_each_subtask_has_the_same_say_however_many_examples_it_has() -> None:
    assert list(islice(turns(["a", "a", "b", "a"]), 8)) == [0, 2, 1, 2, 3, 2, 0, 2]
    assert list(islice(turns(["a"] * 3), 5)) == [0, 1, 2, 0, 1]
    assert list(islice(turns(["a", "b", "a", "b"]), 5)) == [0, 1, 2, 3, 0]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 40), st.lists(st.sampled_from("abc"), min_size=5,
                                                           max_size=5))  # fmt: skip
def test_it_does_what_a_plain_loop_does(seed: int, k: int, sources: list[str]) -> None:
    pool, targets = cloud(seed)
    found = pick(pool, targets, sources, k)
    expected = plain(pool, targets, sources, k)
    assert found.indices == [row for row, _ in expected]
    assert found.scores == pytest.approx([cosine for _, cosine in expected])


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_pools_order_changes_nothing(seed: int) -> None:
    pool, targets = cloud(seed)
    sources = ["a", "a", "b", "c", "b"]
    here = pick(pool, targets, sources, 15)
    order = np.random.default_rng(seed).permutation(40)
    there = pick(pool[order], targets, sources, 15, [f"{i:03}" for i in order])
    assert [int(order[i]) for i in there.indices] == here.indices
    assert there.scores == here.scores


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, targets = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in cloud(3, m=7))
    whole = nearest_first(pool, targets, 40)
    for at_once in (1, 80, 250):
        monkeypatch.setattr(rds, "AT_ONCE", at_once)
        assert (nearest_first(pool, targets, 40) == whole).all()


def test_of_copies_the_smaller_id_is_taken_first() -> None:
    pool, targets = np.tile([[3.0, 1.0, 2.0]], (5, 1)), np.array([[1.0, 0, 0]])
    found = pick(pool, targets, ["a"], 3, ids=["d", "b", "e", "a", "c"])
    assert found.indices == [3, 1, 4]


def test_lengths_do_not_count() -> None:
    pool, targets = cloud(4)
    sizes = 2.0 ** np.arange(40)[:, None] / 2**20
    sources = ["a"] * 5
    assert pick(pool * sizes, targets * 8, sources, 9) == pick(pool, targets, sources, 9)


def test_what_was_not_read_is_left_out() -> None:
    pool, targets = (part.astype(float) for part in cloud(5))
    pool[[3, 7]], targets[1] = np.nan, np.nan
    sources = ["a", "b", "a", "b", "b"]
    found = pick(pool, targets, sources, 40)
    assert sorted(found.indices) == [row for row in range(40) if row not in {3, 7}]
    assert found.excluded == {"no embedding": [3, 7]}
    kept = [0, 2, 3, 4]
    assert pick(pool, targets[kept], [sources[i] for i in kept], 40).indices == found.indices
    assert set(pick(pool, targets, sources, 5, eligible=[1, 3, 8]).indices) == {1, 8}
    with pytest.raises(InputError, match="none of the validation examples"):
        pick(pool, np.full((5, 3), np.nan), sources, 5)


def test_signals_that_are_lacking_are_named() -> None:
    with pytest.raises(KeyError, match="embeddings was not read"):
        Rds().select(Signals(["0"], ["a"], np.ones(1)), 1, np.random.default_rng(0), [0])
