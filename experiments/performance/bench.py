"""``make bench``: everything that is promised about speed, measured in one run.

Writes RESULTS.md, growth.png and results.json beside this file. ``--only`` runs a part, ``--quick``
runs small sizes and writes nothing.

Parts import what they measure themselves: a measurement's process would load this file's imports.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from experiments.performance.timing import in_process
from spice.storage import provenance

HERE = Path(__file__).parent
PEERS = ("submodlib-py", "opacus", "bergson")
WINDOW = (120, 1_000_000, 12)
POOLS = [  # n, d, k, and who takes part
    (2_000, 2_048, 200, "blocked,dual"),
    (8_000, 2_048, 800, "blocked,dual"),
    (20_000, 2_048, 2_000, "blocked,dual"),
    (97_500, 8_192, 9_750, "blocked"),
]


def window(quick: bool) -> dict[str, Any]:
    """(a) One window of the published schedule."""
    from experiments.performance import greedy

    n, d, k = (120, 10_000, 12) if quick else WINDOW
    return {"n": n, "d": d, "k": k, **in_process(greedy.window, n, d, k, 5)}


def weights(quick: bool) -> dict[str, Any]:
    """(a') The consensus of a whole pool."""
    from experiments.performance import weights

    return in_process(weights.measure, 1 / 64 if quick else 1.0, 8_192)


def pools(quick: bool) -> list[dict[str, Any]]:
    """(b) Whole pools."""
    from experiments.performance import greedy

    sizes = POOLS[:1] if quick else POOLS
    return [greedy.compare_whole(n, d, k, ways.split(",")) for n, d, k, ways in sizes]


def partitions(quick: bool) -> list[dict[str, Any]]:
    """(b') More rows than one greedy holds."""
    from experiments.performance import partitions

    return partitions.measure(quick)


def others(quick: bool) -> list[dict[str, Any]]:
    """(c) Other libraries."""
    from experiments.performance import peers

    sizes = [(300, 512, 30)] if quick else [(1_000, 2_048, 100), (2_000, 2_048, 200)]
    return [peers.compare(*size) for size in sizes]


def extraction(quick: bool) -> dict[str, Any]:
    """(d) Gradients of single rows."""
    from experiments.performance import gradients

    models = gradients.MODELS[:1] if quick else gradients.MODELS
    return gradients.compare(1 if quick else 5, models)


def growth(quick: bool) -> dict[str, Any]:
    """(e) How time and memory grow."""
    from experiments.performance import growth

    return growth.measure(quick)


def second_penalty(quick: bool) -> list[dict[str, Any]]:
    """(f) A second λ on a finished store."""
    from experiments.performance import second_penalty

    return second_penalty.measure(quick)


def million(quick: bool) -> dict[str, Any]:
    """(g) A pool of a million rows."""
    from experiments.performance import million

    return million.measure(quick)


def whole_run(quick: bool) -> dict[str, Any]:
    """(h) From the pool to the scores, and once more with another penalty."""
    from experiments.performance import whole_run

    return whole_run.measure(quick)


PARTS: dict[str, Callable[[bool], Any]] = {
    part.__name__: part
    for part in (
        window,
        weights,
        pools,
        partitions,
        others,
        extraction,
        growth,
        second_penalty,
        million,
        whole_run,
    )
}


def machine() -> dict[str, Any]:
    """Hardware and versions, the other libraries' included."""
    installed = {peer: version(peer) for peer in PEERS if list(distributions(name=peer))}
    return {**provenance.describe(), "versions": {**provenance.versions(), **installed}}


def main() -> None:
    from experiments.performance import growth_figure
    from experiments.performance.tables import table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    path = HERE / "results.json"
    found = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() and arguments.only else {}
    )
    for name in [arguments.only] if arguments.only else PARTS:
        start = time.perf_counter()
        found[name] = PARTS[name](arguments.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    found["machine"] = machine()
    if arguments.quick:
        print(table(found))
        return
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(table(found), encoding="utf-8")
    if "growth" in found:
        growth_figure.draw(found["growth"], HERE / "growth.png")


if __name__ == "__main__":
    main()
