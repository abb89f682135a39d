"""How influences on many subtasks become one ranking."""

from __future__ import annotations

import numpy as np
import pytest

from spice.errors import InputError
from spice.models.lora import Lora
from spice.records import Signals
from spice.selectors.less import Less, best_of_benchmarks
from spice.training.recipe import Recipe

LORA = Lora(4, 8, 0.0, "all-linear")
RECIPE = Recipe(4, None, 2e-5, "linear", 0.03, 0.0, 1.0, 32, 8, 5)


def table(**columns: list[float]) -> np.ndarray:
    names = [name.replace("__", "/") for name in columns]
    return np.rec.fromarrays([np.array(values) for values in columns.values()], names=names)


def test_within_one_benchmark_the_best_subtask_counts_as_it_is() -> None:
    found = best_of_benchmarks(table(one__a=[0.1, 0.5, 0.2], one__b=[0.3, 0.0, 0.1]))
    assert found.tolist() == [0.3, 0.5, 0.2]


def test_benchmarks_are_standardised_before_the_best_counts() -> None:
    small, large = [0.01, 0.02, 0.03], [5.0, 1.0, 3.0]
    found = best_of_benchmarks(table(one=small, two=large))
    z = 1.5**0.5
    assert found == pytest.approx([z, 0, z])
    scaled = best_of_benchmarks(table(one=[100 * x + 7 for x in small], two=large))
    assert scaled == pytest.approx(found)


def test_rows_that_could_not_be_read_are_not_chosen_and_ties_go_to_the_smaller_id() -> None:
    influence = table(one=[0.2, 0.5, 0.5, np.nan])
    signals = Signals(["0", "2", "1", "3"], ["a"] * 4, np.ones(4), influence=influence)
    selector = Less(0.05, LORA, RECIPE, 8192, 0)
    chosen = selector.select(signals, 4, np.random.default_rng(0), [0, 1, 2])
    assert chosen.indices == [2, 1, 0]
    assert chosen.scores == [0.5, 0.5, 0.2]


@pytest.mark.parametrize(("share", "projection"), [(0.0, 8), (1.5, 8), (0.05, 0)])
def test_impossible_settings_are_refused(share: float, projection: int) -> None:
    with pytest.raises(InputError, match=r"^(warmup_share|projection)="):
        Less(share, LORA, RECIPE, projection, 0)


def test_a_row_that_was_not_read_spoils_no_other() -> None:
    columns = [np.array([0.1, np.nan, 0.3, 0.2]), np.array([0.0, 0.5, np.inf, 0.4])]
    influence = np.rec.fromarrays(columns, names=["one", "two"])
    signals = Signals(list("abcd"), ["x"] * 4, np.ones(4), influence=influence)
    chosen = Less(0.05, LORA, RECIPE, 8192, 0).select(
        signals, 4, np.random.default_rng(0), range(4)
    )
    assert chosen.indices == [3, 0]
    assert np.isfinite(chosen.scores or []).all()
    assert chosen.excluded == {"no finite influence": [1, 2]}
