"""The measurement of what fewer bits cost measures that."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.performance import pools, precision
from spice.storage.coding import CODINGS


def test_float32_costs_nothing_and_the_others_little() -> None:
    G = pools.pool(60, 700)
    records = precision.measure(G)
    assert len(records) == len(CODINGS) * len(precision.SCALES)
    for record in records:
        if record["dtype"] == "float32":
            assert record["error"] == 0
            assert record["λ=0"] == {"jaccard": 1, "information": pytest.approx(1, abs=1e-12)}
        assert 0 <= record["error"] < 0.01
        assert 0.8 < record["λ=0.1"]["information"] < 1.2
    assert precision.table(records).count("\n") == len(records) + 1


def test_the_error_is_over_both_norms() -> None:
    G = np.diag([2.0, 3.0])
    assert precision.product_error(G, 1.1 * G) == pytest.approx(0.21 / 2**0.5)
