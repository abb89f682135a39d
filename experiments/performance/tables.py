"""What ``bench.py`` found, as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.performance.greedy import dual_operations
from experiments.performance.growth import exponent

POOL_COLUMNS = (
    "n",
    "d",
    "k",
    "blocked",
    "peak",
    "× the dual form as plain products",
    "its operations over the dual form's",
    "dense",
    "× blocked",
    "F(S) apart by",
    "first other pick, its score apart by",
)


def table(found: dict[str, Any]) -> str:
    """What was measured, for a reader."""
    lines = ["# What was measured", "", "Written by `bench.py`; ratios are of one run.", ""]
    for part, write in SECTIONS.items():
        lines += write(found[part]) if part in found else []
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rest = ", ".join(f"{key}: {value}" for key, value in machine.items() if key != "versions")
    return "\n".join([*lines, "## Machine", "", rest + ".", "", versions + ".", ""])


def _window(w: dict[str, Any]) -> list[str]:
    ours = w["seconds"]["ours"]
    same = "the same" if w["same picks"] else "**not the same**"
    return [
        f"## One window: n = {w['n']}, d = {w['d']:,}, k = {w['k']}",
        "",
        "| | seconds (median) | ratio |",
        "|---|---|---|",
        *(f"| {way} | {took:.3g} | {took / ours:.3g} |" for way, took in w["seconds"].items()),
        "",
        f"Picks are {same} as by a fresh solve at every pick. Peak {_gib(w['peak'])}.",
        "",
    ]


def _weights(w: dict[str, Any]) -> list[str]:
    return [
        f"## Weights of a whole pool: n = {w['n']:,}, d = {w['d']:,}, {w['voters']:,} voters",
        "",
        f"The consensus of four sources took {w['seconds']:.1f} s, its cosines as plain products "
        f"{w['products']:.1f} s: {w['seconds'] / w['products']:.2f} times. Peak {_gib(w['peak'])}.",
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
        times = ours["seconds"] / ours["dual form as plain products"]
        share = ours["operations"] / dual_operations(p["n"], p["d"], p["k"])
        cells += [_gib(ours["peak"]), f"{times:.2f}", f"{share:.2f}"]
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


def _partitions(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Two rounds over parts",
        "",
        "λ = 0. One part is the exact greedy. `held` is what columns and factor take, `peak` the",
        "whole process, the rows that it read from disk included. The share of the best k rows' F",
        "is the certificate's; its pass over all rows is timed apart. Seconds are the processor's.",
        "",
        "| n | d | k | parts | F(S) | of exact | picks shared | at least, of the best | seconds "
        "| certificate | held | peak |",
        f"|{'---|' * 12}",
    ]
    for p in found:
        cells = [f"{p['n']:,}", f"{p['d']:,}", f"{p['k']:,}", str(p["count"])]
        cells += [f"{p['information']:.3f}", f"{p['of exact']:.5f}", f"{p['shared']:.1%}"]
        cells += [f"{p['share']:.1%}", f"{p['seconds']:.1f}"]
        cells += [f"{p['certificate']:.1f}", _gib(p["held"]), _gib(p["peak"])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _others(sizes: list[dict[str, Any]]) -> list[str]:
    lines = ["## Other libraries, λ = 0", "", "Memory is above the libraries and the pool.", ""]
    lines += ["| n | d | k | | seconds | ratio | F(S) | peak |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        ours = size["ours"]
        for name, record in size.items():
            if name in {"n", "d", "k", "absent"}:
                continue
            cells = [f"{size['n']:,}", f"{size['d']:,}", f"{size['k']:,}", name]
            cells += [f"{record['seconds']:.2f}", f"{record['seconds'] / ours['seconds']:.1f}"]
            cells += [f"{record['information']:.4f}", _mib(record)]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *_absent(sizes[0]["absent"])]


def _extraction(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Gradients of single rows",
        "",
        "All ways give the same gradients: the largest difference of a row's from ours, over its",
        "norm, stands in the last column; for the training step, of B's gradient from the sum.",
        "",
    ]
    for size in found["sizes"]:
        seconds = size["seconds"]
        first = next(iter(seconds.values()))
        lines += [size["title"], "", "| | ms | ratio | apart |", "|---|---|---|---|"]
        apart = {**size["apart"], next(iter(seconds)): size["step apart"]}
        lines += [
            f"| {name} | {1e3 * s:.0f} | {s / first:.2f} | {apart[name]:.0e} |"
            for name, s in seconds.items()
        ]
        lines.append("")
    lines += [
        f"Peak memory, each in a process of its own, above the libraries and the model: "
        f"{found['sizes'][-1]['title']}.",
        "",
        "| | MiB |",
        "|---|---|",
        *(f"| {name} | {peak / 2**20:.0f} |" for name, peak in found["peaks"].items()),
        "",
    ]
    return lines + _absent(found["absent"])


def _growth(found: dict[str, Any]) -> list[str]:
    base = ", ".join(f"{name} = {value:,}" for name, value in found["base"].items())
    lines = [
        "## Growth",
        "",
        "![Time and memory over rows' lengths, n, d and k](growth.png)",
        "",
        f"Greedy in blocks around {base}; memory above the libraries. The last line of a quantity",
        "tells the exponent b of the fit a·x^b.",
        "",
        "| | | seconds | peak |",
        "|---|---|---|---|",
    ]
    for name in ("tokens", "n", "d", "k"):
        points = found[name]
        what = "extraction of a row, tokens" if name == "tokens" else f"greedy, {name}"
        lines += [f"| {what} | {p['at']:,} | {p['seconds']:.3g} | {_mib(p)} |" for p in points]
        slopes = [exponent(points, key) for key in ("seconds", "peak") if key in points[0]]
        cells = [f"{slope:.2f}" for slope in slopes] + ["–"] * (2 - len(slopes))
        lines.append(f"| | exponent | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def _second_penalty(pools: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## A second λ on a finished store",
        "",
        "Seconds of the whole command, Python's start and the reading of the pool included.",
        "",
        "| | n | k | first | its gradients | selection | second | its selection | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for p in pools:
        first, second = p["first"], p["second"]
        cells = [p["pool"], f"{p['n']:,}", f"{p['k']:,}", f"{first['seconds']:.1f}"]
        cells += [f"{first['steps'][step]:.1f}" for step in ("gradients", "selection")]
        cells += [f"{second['seconds']:.1f}", f"{second['steps']['selection']:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {p['ratio']:.1%} |")
    return [*lines, ""]


def _million(found: dict[str, Any]) -> list[str]:
    first, again, spice = found["first"], found["again"], found["spice"]
    lines = [
        f"## A pool of {found['n']:,} rows",
        "",
        "Sandbox rows, the command line with selector=random and one step of fine-tuning. Peaks",
        "are of all processes, mapped files included. The second run has another seed.",
        "",
        "| | seconds | rows read, models' weights looked at | tokens and audit | peak |",
        "|---|---|---|---|---|",
    ]
    for name, one in (("first run", first), ("second run", again)):
        read, tokens = one["steps"]["pool"] - one["tokens"], one["tokens"]
        cells = [f"{one['seconds']:.0f}", f"{read:.1f}", f"{tokens:.1f}", _gib(one["peak"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"spice, k = {spice['k']:,}, on {spice['d']} synthetic coordinates of as many rows, from a "
        f"file: {spice['seconds']:.1f} s, peak {_gib(spice['peak'])}.",
        "",
    ]


def _whole_run(found: dict[str, Any]) -> list[str]:
    steps = list(found["runs"][0]["steps"])
    lines = [
        f"## {found['n']:,} rows from the pool to the scores",
        "",
        "The sandbox's, by the command line with selector=spice and "
        f"budget={found['budget']}, and once more with another",
        "penalty. Seconds; peaks are of all processes, mapped files included.",
        "",
        f"| | in all | {' | '.join(steps)} | peak |",
        f"|{'---|' * (len(steps) + 3)}",
    ]
    for name, one in zip(("λ = 0.1", "then λ = 0.5"), found["runs"], strict=True):
        cells = [f"{one['steps'].get(step, 0.0):.1f}" for step in steps]
        lines.append(
            f"| {name} | {one['seconds']:.0f} | {' | '.join(cells)} | {_gib(one['peak'])} |"
        )
    return [*lines, ""]


def _absent(reasons: dict[str, str]) -> list[str]:
    if not reasons:
        return []
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return [f"Not measured: {why}.", ""]


def _mib(point: dict[str, Any]) -> str:
    return f"{point['peak'] / 2**20:.0f} MiB" if "peak" in point else "–"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    "window": _window,
    "weights": _weights,
    "pools": _pools,
    "partitions": _partitions,
    "others": _others,
    "extraction": _extraction,
    "growth": _growth,
    "second_penalty": _second_penalty,
    "million": _million,
    "whole_run": _whole_run,
}
