"""The benchmark measures what it says: the same gradients by every way, and tables of all parts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.performance import (
    bench,
    cuda,
    gradients,
    greedy,
    growth,
    growth_figure,
    peers,
    tables,
)
from experiments.performance.gradient_ways import WAYS
from spice.data.rendering import Example

MODEL = (32, 1)
LIBRARIES = {"opacus", "bergson"}


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    """Three rows of unequal lengths."""
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, gradients.VOCABULARY, n).tolist() for n in (12, 7, 5)]
    return gradients.batches_of([Example(row, len(row) // 3) for row in rows], 3)[0]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.filterwarnings("ignore")  # peers' advice
def test_every_way_gives_the_same_gradients(name: str, batch: dict[str, Any]) -> None:
    if name in LIBRARIES:
        pytest.importorskip(name)
    ours = WAYS[gradients.OURS](gradients.llama(*MODEL))(batch)
    way = WAYS[name](gradients.llama(*MODEL))
    for _ in range(2):  # nothing is left over from the batch before
        assert gradients.distance(way, [batch], [ours]) <= gradients.CLOSE


def test_gradients_that_differ_are_not_timed(batch: dict[str, Any]) -> None:
    ours = WAYS[gradients.OURS](gradients.llama(*MODEL))(batch)
    with pytest.raises(AssertionError, match="differ"):
        gradients.distance(lambda _: 1.001 * ours, [batch], [ours])


def test_another_library_finds_as_much_information(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submodlib")
    monkeypatch.setattr(peers, "in_process", lambda f, *a: f(*a))
    found = peers.compare(200, 64, 20)
    assert found["submodlib-py"]["information"] == pytest.approx(found["ours"]["information"])


def test_a_library_that_is_missing_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: torch.nn.Module) -> None:
        raise ImportError("No module named 'peer'")

    ways = {gradients.OURS: WAYS[gradients.OURS], "peer": missing}
    monkeypatch.setattr(gradients, "WAYS", ways)
    absent: dict[str, str] = {}
    assert list(gradients.make(*MODEL, absent)) == [gradients.OURS]
    assert absent == {"peer": "No module named 'peer'"}


def test_exponents_are_those_of_a_power(tmp_path: Path) -> None:
    points = [{"at": x, "seconds": 3 * x**1.5, "peak": 2.0**20 * x} for x in (1, 2, 4)]
    assert growth.exponent(points, "seconds") == pytest.approx(1.5)
    base = dict.fromkeys("ndk", 1)
    found = {"base": base, "tokens": points, "n": points, "d": points, "k": points}
    growth_figure.draw(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_table_has_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """On what each part finds at quick sizes, without processes of their own."""
    for module in ("bench", "gradients", "growth", "greedy", "peers"):
        monkeypatch.setattr(f"experiments.performance.{module}.in_process", lambda f, *a: f(*a))
    monkeypatch.setattr(gradients, "MODELS", (MODEL,))
    monkeypatch.setattr(gradients, "ROWS", 4)
    monkeypatch.setattr(bench, "POOLS", [(300, 64, 20, "blocked,dual")])
    monkeypatch.setattr(greedy, "plain_products", lambda _: 1.0)
    monkeypatch.setattr("experiments.performance.million.in_process", lambda f, *a: f(*a))
    steps = {"pool": 4.0, "gradients": 1.0, "selection": 0.5}
    once = {"seconds": 9.0, "steps": steps, "tokens": 3.0, "peak": 2**30, "n": 100, "k": 20}
    for module in ("million", "whole_run", "second_penalty"):
        monkeypatch.setattr(f"experiments.performance.{module}.run", lambda *_: once)
    found: dict[str, Any] = {name: part(True) for name, part in bench.PARTS.items()}
    assert found["second_penalty"][0]["ratio"] == 1.0
    found["machine"] = {"cores": 2, "versions": {"torch": torch.__version__}}
    text = tables.table(json.loads(json.dumps(found)))
    assert text.count("\n## ") == len(bench.PARTS) + 1
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(way in text for way in WAYS if importlib.util.find_spec(way) or way not in LIBRARIES)
    assert all("nan" not in row for row in rows)


def test_the_cuda_script_runs_without_a_gpu() -> None:
    found = {name: part("cpu", True) for name, part in cuda.PARTS.items()}
    found |= {"device": "CPU", "machine": {"versions": {}}}
    [part] = found["extraction"]
    assert part["apart"] < 1e-5
    assert found["agreement"]["first difference"] is None
    text = cuda.table(json.loads(json.dumps(found)))
    assert all(name in text for name in part["ways"])
