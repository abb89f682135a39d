"""Fewer bits: within the stated error, and nothing that matters to selection gets lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.errors import InputError
from spice.storage.coding import BLOCK, CODINGS, TINY, Float16, round_trip, row_bytes
from spice.storage.shards import ShardStore, StoredRows

REDUCED = [name for name in CODINGS if name != "float32"]
WIDTHS = st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])


@st.composite
def gradients(draw: st.DrawFn) -> np.ndarray:
    """Rows of very different size, heavy-tailed within, with numbers of exactly zero."""
    n, d = draw(st.integers(1, 6)), draw(WIDTHS)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    spread = draw(st.sampled_from([0.0, 1.0, 4.0]))
    sizes = [draw(st.floats(-44, 36)) for _ in range(n)]
    G = rng.normal(size=(n, d)) * np.exp(spread * rng.normal(size=(n, d)))
    G *= rng.random((n, d)) < draw(st.sampled_from([0.1, 1.0]))
    largest = np.abs(G).max(axis=1, keepdims=True)
    G *= 10.0 ** np.array(sizes)[:, None] / np.where(largest > 0, largest, 1)
    return G.astype(np.float32)


def bound(G: np.ndarray, dtype: str) -> np.ndarray:
    """The error that the coding's docstring states."""
    size = np.abs(G.astype(np.float64))
    starts = np.arange(0, G.shape[1], BLOCK)
    largest = np.repeat(np.maximum.reduceat(size, starts, axis=1), BLOCK, axis=1)[:, : G.shape[1]]
    if dtype == "bfloat16":
        return np.maximum(2**-8 * size, 2.0**-134)
    if dtype == "float16":
        return np.maximum(2**-11 * size, 2**-39 * largest)
    return np.maximum(largest / 127, TINY) / 2 * (1 + 2**-14)  # float32's own rounding


@pytest.mark.parametrize("dtype", REDUCED)
@given(gradients())
def test_numbers_come_back_within_the_stated_error(dtype: str, G: np.ndarray) -> None:
    found = round_trip(G, dtype)
    assert found.dtype == np.float32
    assert np.all(np.abs(found.astype(np.float64) - G) <= bound(G, dtype))
    assert not found[G == 0].any()


@given(gradients())
def test_float32_is_left_alone(G: np.ndarray) -> None:
    assert round_trip(G, "float32").tobytes() == G.tobytes()


@pytest.mark.parametrize("dtype", REDUCED)
@given(gradients(), st.sampled_from([np.nan, np.inf, -np.inf]), st.randoms())
def test_rows_that_are_not_finite_stay_so_and_the_others_are_untouched(
    dtype: str, G: np.ndarray, bad: float, random: Any
) -> None:
    expected = round_trip(G, dtype)
    row, column = random.randrange(len(G)), random.randrange(G.shape[1])
    G[row, column] = bad
    found = round_trip(G, dtype)
    assert not np.isfinite(found[row, column])
    np.testing.assert_array_equal(np.delete(found, row, 0), np.delete(expected, row, 0))


@pytest.mark.parametrize("dtype", CODINGS)
@given(gradients())
def test_copies_stay_copies_wherever_they_stand(dtype: str, G: np.ndarray) -> None:
    twice = round_trip(np.concatenate([G, G[::-1]]), dtype)
    assert twice[: len(G)].tobytes() == np.ascontiguousarray(twice[: len(G) - 1 : -1]).tobytes()
    assert twice[: len(G)].tobytes() == round_trip(G, dtype).tobytes()


def test_every_finite_float16_is_widened_exactly() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    found = Float16().widened(every)
    assert found.tobytes() == every.astype(np.float32).tobytes()


def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    import torch

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    G = np.concatenate([bits, ties]).view(np.float32)[None]
    expected = torch.from_numpy(G).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_trip(G, "bfloat16"), expected)


def test_int8_is_off_by_what_rounding_alone_costs() -> None:
    """Uniform errors within ±s/2: s/√12 each."""
    G = np.random.default_rng(0).normal(size=(4, 100 * BLOCK)).astype(np.float32)
    error = round_trip(G, "int8") - G
    largest = np.abs(G).reshape(4, -1, BLOCK).max(axis=2)
    expected = np.sqrt(np.mean((largest / 127) ** 2) / 12)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=0.02)


# -- in a store --------------------------------------------------------------------------------

D = 2 * BLOCK + 9
IDS = [f"row-{i}" for i in range(10)]
PLAN = [np.array([7, 2, 0]), np.array([1, 9]), np.array([4])]
VALUES = np.random.default_rng(0).standard_t(2, (10, D)).astype(np.float32)


def a_store(folder: Path, dtype: str) -> ShardStore:
    return ShardStore(folder, {"model": "m"}, ids=IDS, plan=PLAN, dimension=D, dtype=dtype)


def filled(folder: Path, dtype: str) -> ShardStore:
    store = a_store(folder, dtype)
    store.open()
    for shard in store.missing():
        store.write(shard, VALUES[PLAN[shard]])
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredRows]:
    return {dtype: filled(tmp_path_factory.mktemp(dtype), dtype).rows() for dtype in CODINGS}


@pytest.mark.parametrize("dtype", CODINGS)
def test_a_store_is_read_as_its_rows_were_rounded(dtype: str, tmp_path: Path) -> None:
    store, rows = filled(tmp_path, dtype), np.concatenate(PLAN)
    assert store.missing() == []
    np.testing.assert_array_equal(store.read()[rows], round_trip(VALUES, dtype)[rows])
    assert np.flatnonzero(np.isnan(store.read()).all(axis=1)).tolist() == [3, 5, 6, 8]


edges = st.none() | st.integers(-D - 3, D + 3)


@pytest.mark.parametrize("dtype", CODINGS)
@given(
    rows=st.lists(st.integers(0, 9), max_size=12),
    columns=st.builds(slice, edges, edges, st.sampled_from([None, 1, 3, -2])),
)
def test_any_rows_and_columns_are_those_of_the_whole(
    stores: dict[str, StoredRows], dtype: str, rows: list[int], columns: slice
) -> None:
    which = np.array(rows, dtype=np.int64)
    found, whole = stores[dtype], stores[dtype][:]
    np.testing.assert_array_equal(found[which, columns], whole[which][:, columns])
    np.testing.assert_array_equal(found[2:8, columns], whole[2:8, columns])


@pytest.mark.parametrize("dtype", CODINGS)
def test_numbers_stay_on_disk_and_are_mapped(stores: dict[str, StoredRows], dtype: str) -> None:
    for shard in stores[dtype].shards:
        assert all(isinstance(part, np.memmap) for part in shard.values())


@pytest.mark.parametrize("dtype", CODINGS)
def test_the_files_have_the_bytes_that_were_announced(dtype: str, tmp_path: Path) -> None:
    store = filled(tmp_path, dtype)
    headers = 0
    for file in tmp_path.glob("*.safetensors"):
        with file.open("rb") as opened:
            headers += 8 + int.from_bytes(opened.read(8), "little")
    assert store.bytes() - headers == store.bytes_of(range(3)) == 6 * row_bytes(dtype, D)


@pytest.mark.parametrize("dtype", CODINGS)
def test_other_readers_know_the_types(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    store = filled(tmp_path, dtype)
    values = load_file(store._path(1))["values"]
    assert str(values.dtype) == f"torch.{dtype}"


@pytest.mark.parametrize("dtype", CODINGS)
@pytest.mark.parametrize("lost", [1, 8, 700, 10**9])
def test_a_shard_cut_short_is_seen_and_made_again(dtype: str, lost: int, tmp_path: Path) -> None:
    store = filled(tmp_path, dtype)
    path = store._path(0)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - lost)])
    assert store.missing() == [0]
    store.write(0, VALUES[PLAN[0]])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("dtype", REDUCED)
def test_a_store_in_other_bits_is_another_store(dtype: str, tmp_path: Path) -> None:
    filled(tmp_path, "float32")
    with pytest.raises(InputError, match="stored_as differ"):
        a_store(tmp_path, dtype).open()
    other = filled(tmp_path / "other", dtype)
    assert other._path(0).name != a_store(tmp_path, "float32")._path(0).name
    record = json.loads((tmp_path / "other/metadata.json").read_text())
    assert record["stored_as"] == dtype


def test_a_shard_of_another_type_under_its_name_is_not_taken_for_it(tmp_path: Path) -> None:
    """As a copy by hand might leave it, marks and shape included."""
    from safetensors.numpy import save_file

    store = filled(tmp_path, "int8")
    for tensors in (
        {"values": VALUES[PLAN[0]]},
        {**store.coding.encode(VALUES[PLAN[0]]), "more": np.zeros(3)},
        {"values": store.coding.encode(VALUES[PLAN[0]])["values"]},
    ):
        save_file(tensors, store._path(0), metadata={"metadata": store._digest})
        assert store.missing() == [0]
