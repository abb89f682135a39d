"""The published schedule against a plain loop, and runs that are cut short."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spice
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients.extraction import Extraction
from spice.gradients.per_sample import dimension, per_sample_gradients
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.records import Selection
from spice.schedules.window_by_window import WindowByWindow, choose
from spice.schedules.windows import Windows, shares
from spice.selectors.spice import Spice

LORA = Lora(4, 8, 0.0, "all-linear")
SELECTOR = Spice(0.5, 1.0, "raw", 0.5, None, False, False, "exact", "auto", None, "auto")
N = 34
IDS = [f"{i:03}" for i in np.random.default_rng(3).permutation(N)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(N):
        length = int(rng.integers(4, 14))
        made.append(Example(rng.integers(4, 90, length).tolist(), int(rng.integers(1, length))))
    return made


@pytest.fixture
def schedule(
    make_checkpoint: Callable[..., Path], examples: list[Example], tmp_path: Path
) -> Callable[..., WindowByWindow]:
    checkpoint = Checkpoint(str(make_checkpoint("llama")), "float32")

    def start(
        folder: str = "one",
        dropout: float = 0.0,
        selector: Spice = SELECTOR,
        batch_size: int = 4,
        **options: Any,
    ) -> WindowByWindow:
        given = {"pool_size": 6, "refresh_every": 2, "train_proxy": True, "learning_rate": 0.05}
        pools = Windows(**{**given, "weight_decay": 0.01, **options})
        model = Lora(4, 8, dropout, "all-linear").attach(checkpoint.load(), 7)
        windows = pools.windows(IDS, range(N), 1)
        extraction = Extraction(LORA, "mean", None, "float32", batch_size, 10_000, 9_000, 256, 7)
        return WindowByWindow(
            model, selector, extraction, pools, examples, IDS, windows, 12,
            folder=tmp_path / folder, pad_id=0, seed=1,
        )  # fmt: skip

    return start


def gradients(model: Any, examples: list[Example], rows: list[int]) -> np.ndarray:
    return per_sample_gradients(model, pad(examples, rows, 0), "mean").numpy()


def test_the_papers_windows_give_the_papers_number_of_rows() -> None:
    pools = Windows(120, 10, True, 2e-4, 0.01)
    windows = pools.windows([f"{i:06}" for i in range(97_500)], range(97_500), 0)
    counts = shares(windows, 9_750)
    assert (len(windows), set(counts[:-1]), counts[-1], sum(counts)) == (813, {12}, 6, 9_750)


def test_windows_part_the_eligible_rows_whatever_the_pools_order() -> None:
    pools = Windows(6, 2, True, 2e-4, 0.01)
    eligible = [i for i in range(N) if i % 5]
    windows = pools.windows(IDS, eligible, 1)
    assert sorted(row for window in windows for row in window) == eligible
    assert {len(window) for window in windows[:-1]} == {6}
    order = np.random.default_rng(9).permutation(N).tolist()
    moved = pools.windows([IDS[i] for i in order], [p for p, i in enumerate(order) if i % 5], 1)
    assert [[order[p] for p in window] for window in moved] == windows
    assert pools.windows(IDS, eligible, 2) != windows


def test_an_untrained_proxy_chooses_from_each_window_on_its_own(
    schedule: Callable[..., WindowByWindow], examples: list[Example]
) -> None:
    module = schedule(train_proxy=False)
    expected = []
    for rows, count in zip(module.windows, module.shares, strict=True):
        G = gradients(module.model, examples, rows)
        in_order = sorted(range(len(rows)), key=lambda i: IDS[rows[i]])
        chosen = spice.select(G[in_order], count, penalty=0.5)
        expected += [rows[in_order[i]] for i in chosen.indices]
    found = choose(PerRank(lambda: module), QUIET, None)
    assert found.indices == expected
    assert found.k == len(set(expected)) == 12
    assert found.information == pytest.approx(sum(found.gains or []))


def test_the_proxy_learns_what_a_plain_loop_would_teach_it(
    schedule: Callable[..., WindowByWindow], examples: list[Example]
) -> None:
    module, model = schedule("plain"), schedule("other").model
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.05, weight_decay=0.01
    )
    picked: list[int] = []
    waiting: list[int] = []
    for number, (rows, count) in enumerate(zip(module.windows, module.shares, strict=True)):
        in_order = sorted(rows, key=lambda row: IDS[row])
        chosen = spice.select(gradients(model, examples, in_order), count, penalty=0.5)
        waiting += [in_order[i] for i in chosen.indices]
        if number % 2 == 1 or number + 1 == len(module.windows):
            nll, tokens = response_nll(model, pad(examples, waiting, 0))
            optimizer.zero_grad()
            (nll.sum() / tokens.sum()).backward()
            optimizer.step()
            picked, waiting = picked + waiting, []
    found = choose(PerRank(lambda: module), QUIET, None)
    assert found.indices == picked
    for ours, theirs in zip(module.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    frozen = choose(PerRank(lambda: schedule("frozen", train_proxy=False)), QUIET, None)
    assert frozen.indices != picked


@pytest.mark.parametrize("scale", ["raw", "clip", "unit"])
def test_products_choose_what_the_gradients_would(
    schedule: Callable[..., WindowByWindow], monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    selector = dataclasses.replace(SELECTOR, scale=scale)
    found = choose(PerRank(lambda: schedule("products", selector=selector)), QUIET, None)
    one_by_one = choose(
        PerRank(lambda: schedule("one by one", selector=selector, batch_size=1)), QUIET, None
    )
    assert one_by_one.indices == found.indices
    monkeypatch.setattr("spice.selectors.spice.OF_PRODUCTS", ())
    expected = choose(PerRank(lambda: schedule("gradients", selector=selector)), QUIET, None)
    assert found.indices == expected.indices
    for name in ("gains", "conflicts", "bases", "information"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-6)


def test_copies_stay_copies(
    schedule: Callable[..., WindowByWindow], examples: list[Example]
) -> None:
    twins = [*examples[:5], *examples[:5]]
    module = schedule(pool_size=N)
    module.examples, module.windows = twins, [list(range(10))]
    G = module._gradients(next(iter(module.train_dataloader())))
    assert np.array_equal(G[:5], G[5:])


def test_a_form_that_needs_coordinates_has_them(schedule: Callable[..., WindowByWindow]) -> None:
    diagonal = schedule(selector=dataclasses.replace(SELECTOR, fisher="diag"))
    window = next(iter(diagonal.train_dataloader()))
    assert diagonal._gradients(window).shape == (6, dimension(diagonal.model))
    assert schedule("other")._gradients(window).shape == (6, 6)


class KilledError(Exception):
    """Stands for a kill between two windows."""


def cut_after(windows: int) -> Callable[[WindowByWindow, int, Selection], None]:
    """A way of writing a window's choice that ends the run after so many."""
    left, write = iter(range(windows)), WindowByWindow._write

    def cut(self: WindowByWindow, number: int, part: Selection) -> None:
        if next(left, None) is None:
            raise KilledError
        write(self, number, part)

    return cut


def test_runs_cut_short_anywhere_end_like_one_that_was_not(
    schedule: Callable[..., WindowByWindow], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = choose(PerRank(lambda: schedule("whole", dropout=0.3)), QUIET, None)
    state = {n: p.clone() for n, p in schedule("whole", dropout=0.3).adapter().items()}
    for survived in (0, 1, 1, 2, 3):  # windows chosen before each of five ends
        with monkeypatch.context() as patch:
            patch.setattr(WindowByWindow, "_write", cut_after(survived))
            with suppress(KilledError):
                choose(PerRank(lambda: schedule("cut", dropout=0.3)), QUIET, None)
    ended = choose(PerRank(lambda: schedule("cut", dropout=0.3)), QUIET, None)
    assert (ended.indices, ended.gains) == (whole.indices, whole.gains)
    for name, parameter in schedule("cut", dropout=0.3).adapter().items():
        assert torch.equal(parameter, state[name])


@pytest.mark.parametrize(
    ("option", "value"),
    [("pool_size", 0), ("refresh_every", 0), ("learning_rate", 0.0), ("weight_decay", -1.0)],
)
def test_impossible_settings_are_refused(option: str, value: float) -> None:
    given: dict[str, Any] = {"pool_size": 6, "refresh_every": 2, "train_proxy": True}
    with pytest.raises(InputError, match=f"^{option}="):
        Windows(**{**given, "learning_rate": 0.1, "weight_decay": 0.0, option: value})
