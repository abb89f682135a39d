"""``spice.select`` against a plain implementation, and against what people hand it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import hypothesis
import numpy as np
import plain
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import spice
from spice.errors import InputError
from spice.library import DEFAULTS, Options
from spice.submodular import kernel, objective, state
from spice.submodular.objective import MAXIMIZERS

WORKED = [[3, 0], [2, 0], [-1, 1], [0, 1]]


def problem(seed: int) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """A random problem of any shape, rank, scale and type; the values again in float64."""
    import torch

    rng = np.random.default_rng(seed)
    n = int(np.exp(rng.uniform(0, np.log(200))))
    d = int(np.exp(rng.uniform(0, np.log(250))))
    G = rng.normal(size=(n, d)) + rng.choice([0, 0, 1, 5]) * rng.normal(size=d)
    if rng.random() < 0.3:  # of low rank
        inner = int(rng.integers(1, d + 1))
        G = G @ rng.normal(size=(d, inner)) @ rng.normal(size=(inner, d))
    G *= 10 ** rng.uniform(-2, 2) / np.linalg.norm(G, axis=1).mean()
    kind = int(rng.integers(5))
    given: Any = [
        G,
        G.astype(np.float32),
        torch.tensor(G, requires_grad=True),
        torch.tensor(G, dtype=torch.float32),
        torch.tensor(G, dtype=torch.bfloat16),
    ][kind]
    values = given.detach().double().numpy() if kind > 1 else given.astype(np.float64)
    options = {
        "k": int(rng.integers(1, 41)),
        "alpha": 10 ** rng.uniform(-6, 6) / np.square(values).sum(axis=1).mean(),
        "penalty": float(rng.choice([0, 0.1, 0.5, 1, 10 ** rng.uniform(-6, 2)])),
        "stop_ratio": None if rng.random() < 0.5 else float(rng.uniform(0, 1)),
        "stop_inclusive": bool(rng.random() < 0.5),
    }
    return given, values, options


@pytest.mark.parametrize("chunk", range(10))
def test_five_hundred_random_problems_agree_with_a_plain_implementation(chunk: int) -> None:
    whole = 0
    for seed in range(50 * chunk, 50 * chunk + 50):
        given, values, options = problem(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # k > n among others
            ours = spice.select(given, **options)
        steps = plain.spice(values, **options)
        # Both solve a system of condition α‖F‖ in float64: below this there is no telling.
        squared = options["alpha"] * np.square(values).sum(axis=1).max()
        doubt = 1e-13 * (1 + squared)
        first = steps[0].gain if steps else 0.0
        for t, step in enumerate(steps):
            on_edge = options["stop_ratio"] is not None and (
                abs(step.gain - options["stop_ratio"] * first) < doubt
            )
            if step.lead < doubt or on_edge:
                break
            assert ours.indices[t] == step.pick, (seed, t)
            assert ours.gains[t] == pytest.approx(step.gain, rel=1e-9, abs=doubt), (seed, t)
            assert ours.conflicts[t] == pytest.approx(step.conflict, abs=1e-6), (seed, t)
        else:
            whole += 1
            assert ours.k == len(steps), seed
            total = plain.information(values, ours.indices, options["alpha"])
            assert ours.information == pytest.approx(total, rel=1e-6, abs=1e-12), seed
    assert whole >= 45  # the comparison is cut short where two rows cannot be told apart


def test_the_worked_example_through_the_front_door() -> None:
    picked = spice.select(WORKED, k=3, penalty=0.5)
    assert picked.indices == [0, 3, 1]
    assert picked.information == pytest.approx(3.332205, abs=5e-7)
    assert spice.select(WORKED, 3, penalty=0, stop_ratio=0.5).indices == [0]
    assert spice.select(WORKED, 3, penalty=0, stop_ratio=0.5, stop_inclusive=True).indices == [0, 2]


def test_the_defaults_are_the_published_ones() -> None:
    assert spice.select(WORKED, 3).indices == spice.select(WORKED, 3, penalty=0.1, alpha=1).indices


@pytest.mark.parametrize("dtype", ["int8", "int64", "float16", "float32", "float64", "longdouble"])
def test_every_real_type_is_read_as_its_numbers(dtype: str) -> None:
    G = np.array(WORKED, dtype=dtype)
    assert spice.select(G, 4).gains == spice.select(np.array(WORKED, dtype=float), 4).gains


@pytest.mark.parametrize("dtype", ["int32", "float16", "bfloat16", "float32", "float64"])
def test_every_torch_type_is_read_as_its_numbers(dtype: str) -> None:
    import torch

    G = torch.tensor(WORKED, dtype=getattr(torch, dtype))
    assert spice.select(G, 4).gains == spice.select(np.array(WORKED, dtype=float), 4).gains


HALVES = ["numpy float16", "torch float16", "torch bfloat16"]


def halves(G: np.ndarray, kind: str) -> tuple[Any, np.ndarray]:
    """G in 16 bits, and a float32 copy of the same numbers."""
    import torch

    if kind == "numpy float16":
        given: Any = G.astype(np.float16)
        return given, given.astype(np.float32)
    given = torch.tensor(G).to(getattr(torch, kind.split()[1]))
    return given, given.float().numpy()


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("maximizer", MAXIMIZERS)
@settings(max_examples=15)
@hypothesis.given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 2.0]))
def test_sixteen_bits_choose_as_a_float32_copy_does(
    maximizer: str, kind: str, seed: int, penalty: float
) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 50)), int(rng.integers(1, 300))
    G = rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))
    if seed % 3 == 0:
        G = np.round(G)  # ties by the dozen, zeros of both signs
    if seed % 3 == 1:
        G[n // 2 :] = G[: n - n // 2]
    given, copy = halves(G, kind)
    options: dict[str, Any] = {"penalty": penalty, "maximizer": maximizer}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows of zeros
        found, expected = (spice.select(some, n // 2 + 1, **options) for some in (given, copy))
    assert found.indices == expected.indices
    assert found.gains == expected.gains
    assert found.conflicts == expected.conflicts


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_sixteen_bits_choose_alike_where_pools_are_large(
    kind: str, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where products are taken in float32, and sums of squares by torch."""
    for module in (state, objective):
        monkeypatch.setattr(module, "FEW_ROWS", 100)
    monkeypatch.setattr(kernel, "MANY", 1000)
    rng = np.random.default_rng(0)
    G = rng.normal(size=(600, 90)) * np.exp(0.7 * rng.normal(size=(600, 1))) / 9
    given, copy = halves(np.concatenate([G, G[:40]]), kind)
    found, expected = (spice.select(some, 200, penalty=penalty) for some in (given, copy))
    assert found.indices == expected.indices
    assert found.gains == expected.gains


@pytest.mark.parametrize("kind", HALVES)
def test_sixteen_bits_leave_out_what_is_not_finite(kind: str) -> None:
    G = np.array([[1.0, 0], [0, 0], [np.nan, 1], [1e39, 0], [0, 2]])
    with pytest.warns(UserWarning, match="left out"), np.errstate(over="ignore"):
        picked = spice.select(halves(G, kind)[0], 2)
    assert picked.excluded == {"zero gradient": [1], "not finite": [2, 3]}


def test_what_is_handed_in_is_left_alone() -> None:
    G = np.random.default_rng(0).normal(size=(20, 5))
    before = G.copy()
    spice.select(G, 10)
    np.testing.assert_array_equal(G, before)
    spice.select(np.asfortranarray(G)[::-1], 10)


def test_too_large_a_k_takes_all_and_says_so() -> None:
    with pytest.warns(UserWarning, match="k=9, but only 4 rows") as caught:
        assert sorted(spice.select(WORKED, 9).indices) == [0, 1, 2, 3]
    assert caught[0].filename == __file__  # the caller's line, not ours


def test_a_k_of_zero_is_an_empty_selection_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spice.select(WORKED, 0).indices == []


def test_rows_left_out_are_named_in_a_warning() -> None:
    G = np.array([[1.0, 0], [0, 0], [np.nan, 1], [0, 0], [0, 2]])
    with pytest.warns(UserWarning, match="left out") as caught:
        picked = spice.select(G, 2)
    said = [str(w.message) for w in caught]
    assert any("2 of 5 rows left out: zero gradient (rows 1, 3)" in m for m in said)
    assert any("1 of 5 rows left out: not finite (rows 2)" in m for m in said)
    assert picked.indices == [4, 0]
    assert picked.excluded == {"zero gradient": [1, 3], "not finite": [2]}


def test_zero_rows_can_be_kept() -> None:
    assert spice.select([[1.0, 0], [0, 0]], 2, keep_zero=True).indices == [0, 1]


@pytest.mark.parametrize("k", [-1, 2.5, "2", None, True, float("nan"), float("inf"), [1]])
def test_a_k_that_is_no_count_is_an_input_error(k: Any) -> None:
    with pytest.raises(InputError, match="k="):
        spice.select(WORKED, k)


@pytest.mark.parametrize(
    "gradients",
    [
        [1.0, 2.0],
        np.zeros((2, 2, 2)),
        3.0,
        None,
        [["a", "b"]],
        [[1j, 2]],
        [[True, False]],
        [[1.0, 2.0], [3.0]],
        [[None, 1.0]],
    ],
    ids=str,
)
def test_gradients_that_are_not_n_by_d_numbers_are_an_input_error(gradients: Any) -> None:
    with pytest.raises(InputError, match="gradients"):
        spice.select(gradients, 1)


@pytest.mark.parametrize("options", [{"penalty": -1}, {"alpha": 0}, {"stop_ratio": 2}])
def test_options_out_of_range_are_input_errors(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        spice.select(WORKED, 2, **options)


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="'penality'"):
        spice.select(WORKED, 2, penality=0.5)


def test_each_option_has_a_default_and_what_is_no_option_has_none() -> None:
    assert DEFAULTS.keys() == Options.__annotations__.keys()


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    assert (
        {"diagnose", "gradients", "reliability", "select"} == set(spice.__all__) <= set(dir(spice))
    )
    with pytest.raises(AttributeError, match="has no attribute 'choose'"):
        spice.choose  # noqa: B018


def test_importing_brings_in_neither_numpy_nor_torch() -> None:
    code = "import sys, spice\nassert not {'numpy', 'torch', 'spice.library'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_selecting_needs_no_torch() -> None:
    code = (
        "import sys, numpy, spice\n"
        "assert spice.select(numpy.eye(3), 2).indices == [0, 1]\n"
        "assert not {'torch', 'hydra', 'wandb'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
