"""``make bench``: everything that is promised about speed, measured in one run.

Writes RESULTS.md and results.json beside this file. ``--only`` runs a part, ``--quick`` runs small
sizes and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.performance import gradients, greedy, peers
from experiments.performance.timing import in_process
from spice import hardware

HERE = Path(__file__).parent
WINDOW = (120, 1_000_000, 12)
POOLS = [  # n, d, k, and who takes part
    (2_000, 2_048, 200, "blocked,dual"),
    (8_000, 2_048, 800, "blocked,dual"),
    (20_000, 2_048, 2_000, "blocked,dual"),
    (97_500, 8_192, 9_750, "blocked"),
]


def window(quick: bool) -> dict[str, Any]:
    """(a) One window of the published schedule."""
    n, d, k = (120, 100_000, 12) if quick else WINDOW
    return {"n": n, "d": d, "k": k, **in_process(greedy.window, n, d, k, 5)}


def pools(quick: bool) -> list[dict[str, Any]]:
    """(b) Whole pools."""
    sizes = POOLS[:1] if quick else POOLS
    return [greedy.compare_whole(n, d, k, ways.split(",")) for n, d, k, ways in sizes]


def others(quick: bool) -> list[dict[str, Any]]:
    """(c) Other libraries."""
    sizes = [(300, 512, 30)] if quick else [(1_000, 2_048, 100), (2_000, 2_048, 200)]
    return [peers.compare(*size) for size in sizes]


def extraction(quick: bool) -> list[dict[str, Any]]:
    """(d) Gradients of single rows."""
    return in_process(gradients.measure, 1 if quick else 7)


POOL_COLUMNS = (
    "n",
    "d",
    "k",
    "blocked",
    "peak",
    "× its operations as plain products",
    "dense",
    "× blocked",
    "F(S) apart by",
    "first other pick, its score apart by",
)
PARTS: dict[str, Callable[[bool], Any]] = {
    "window": window,
    "pools": pools,
    "others": others,
    "extraction": extraction,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    path = HERE / "results.json"
    found = json.loads(path.read_text()) if path.is_file() and arguments.only else {}
    for name in [arguments.only] if arguments.only else PARTS:
        start = time.perf_counter()
        found[name] = PARTS[name](arguments.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    found["machine"] = {**hardware.describe(), "versions": hardware.versions()}
    if arguments.quick:
        print(table(found))
        return
    path.write_text(json.dumps(found, indent=2) + "\n")
    (HERE / "RESULTS.md").write_text(table(found))


def table(found: dict[str, Any]) -> str:
    """What was measured, for a reader."""
    lines = ["# What was measured", "", "Written by `bench.py`; ratios are of one run.", ""]
    lines += _window(found["window"]) if "window" in found else []
    lines += _pools(found["pools"]) if "pools" in found else []
    lines += _others(found["others"]) if "others" in found else []
    lines += _extraction(found["extraction"]) if "extraction" in found else []
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rest = ", ".join(f"{key}: {value}" for key, value in machine.items() if key != "versions")
    return "\n".join([*lines, "## Machine", "", rest + ".", "", versions + ".", ""])


def _window(w: dict[str, Any]) -> list[str]:
    ours, loop = w["seconds"]["ours"], w["seconds"]["a loop over candidates"]
    same = "the same" if w["same picks"] else "**not the same**"
    return [
        f"## One window: n = {w['n']}, d = {w['d']:,}, k = {w['k']}",
        "",
        "| | seconds (median) | ratio |",
        "|---|---|---|",
        f"| ours | {ours:.3f} | 1 |",
        f"| a loop over candidates, as published | {loop:.1f} | {loop / ours:.0f} |",
        "",
        f"Picks are {same} as by a fresh solve at every pick. Peak {_gib(w['peak'])}.",
        "",
    ]


def _pools(pools: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Whole pools",
        "",
        f"| {' | '.join(POOL_COLUMNS)} |",
        f"|{'---|' * len(POOL_COLUMNS)}",
    ]
    for p in pools:
        ours, dense = p["blocked"], p.get("dual")
        cells = [f"{p['n']:,}", f"{p['d']:,}", f"{p['k']:,}", f"{ours['seconds']:.1f} s"]
        cells += [_gib(ours["peak"]), f"{ours['seconds'] / ours['as plain products']:.1f}"]
        if dense:
            agreement = ours["agreement"]
            cells += [f"{dense['seconds']:.1f} s", f"{dense['seconds'] / ours['seconds']:.1f}"]
            cells += [f"{agreement['information']:.0e}", _first(agreement)]
        else:
            cells += ["–"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _first(agreement: dict[str, Any]) -> str:
    at, gap = agreement["first difference"], agreement["score gap there"]
    return "none" if at is None else f"{at:,}, {gap:.0e} nats"


def _others(sizes: list[dict[str, Any]]) -> list[str]:
    lines = ["## Other libraries, λ = 0", "", "| n | d | k | | seconds | ratio | F(S) | peak |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        ours = size["ours"]
        for name, record in size.items():
            if name in {"n", "d", "k", "absent"}:
                continue
            cells = [f"{size['n']:,}", f"{size['d']:,}", f"{size['k']:,}", name]
            cells += [f"{record['seconds']:.2f}", f"{record['seconds'] / ours['seconds']:.1f}"]
            cells += [f"{record['information']:.4f}", _gib(record["peak"])]
            lines.append(f"| {' | '.join(cells)} |")
    why = [f"{name} {reason}." for name, reason in sizes[0]["absent"].items()]
    return [*lines, "", "Not measured: " + " ".join(why), ""]


def _extraction(models: list[dict[str, Any]]) -> list[str]:
    lines = ["## Gradients of single rows", ""]
    for model in models:
        seconds = model["seconds"]
        first = next(iter(seconds.values()))
        lines += [model["title"], "", "| | ms | ratio |", "|---|---|---|"]
        lines += [f"| {name} | {1e3 * s:.0f} | {s / first:.2f} |" for name, s in seconds.items()]
        lines.append("")
    return lines


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()
