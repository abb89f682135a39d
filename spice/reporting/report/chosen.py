"""What was chosen and why, beside the pool: sources, lengths, trust, gains and conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spice.reporting.report.charts import line_chart, row_chart
from spice.reporting.report.facts import Report, cell, table
from spice.reporting.report.rows import PoolSeen
from spice.reporting.trust import trust_line

SOURCES = 12  # that are drawn; the table has all
BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def curves(report: Report) -> dict[str, Any] | None:
    """Gain and running mean of conflict by pick: means over seeds, bands from least to most."""
    gains, conflicts = [], []
    for setting in report.drawn:
        selections = [report.runs[i].selection for i in setting["runs"]]
        selections = [s for s in selections if s["gains"] and s["conflicts"]]
        if not selections:
            continue
        length = min(len(s["gains"]) for s in selections)
        steps = np.arange(1, length + 1)
        told = {"name": setting["name"], "colour": setting["colour"], "x": steps.tolist(),
                "href": report.link(setting["runs"][0], "selection.json")}  # fmt: skip
        gains.append({**told, **_band([s["gains"][:length] for s in selections])})
        so_far = [np.cumsum(s["conflicts"][:length]) / steps for s in selections]
        conflicts.append({**told, **_band(so_far)})
    if not gains:
        return None
    some = any(max(one.get("high", one["y"])) > 0 for one in conflicts)
    return {
        "gains": line_chart(gains, "pick", "gain (nats)"),
        "conflicts": line_chart(conflicts, "pick", "conflict, mean so far") if some else None,
        "bands": any(one.get("low") != one.get("high") for one in [*gains, *conflicts]),
        "decay": [
            {name: one[name] for name in ("name", "href")}
            | {"first": one["y"][0], "last": one["y"][-1]}
            for one in gains
        ],
        "names": [(one["name"], one["colour"]) for one in gains],
    }


def _band(each: Sequence[Any]) -> dict[str, Any]:
    values = np.array(each, dtype=float)
    found = {"y": values.mean(axis=0).tolist()}
    if len(values) > 1:
        found |= {"low": values.min(axis=0).tolist(), "high": values.max(axis=0).tolist()}
    return found


def sources(report: Report) -> dict[str, Any]:
    """Each source's share of the pool and of each setting's picks, as a chart and a table."""
    pool = _shares(report, range(len(report.runs)), "pool")
    picked = {s["name"]: _shares(report, s["runs"], "picked") for s in report.settings}
    names = sorted(pool, key=lambda name: -pool[name])
    href = report.link(0, "selection_report.json")
    rows: list[dict[str, Any]] = [
        {
            "label": name,
            "note": f"pool {pool[name]:.0%}",
            "href": href,
            "marks": [
                _mark("bar", f"pool: {pool[name]:.1%}", "pool", href,
                      low=0.0, high=100 * pool[name]),
                *(_share_dot(report, s, picked[s["name"]].get(name, 0.0)) for s in report.drawn),
            ],
        }
        for name in names[:SOURCES]
    ]  # fmt: skip
    highest = max((mark.get("high", mark.get("at", 0)) for row in rows for mark in row["marks"]),
                  default=0.0)  # fmt: skip
    each = [
        [cell(name), cell(f"{pool[name]:.1%}", href, pool[name])]
        + [_share(report, s, picked[s["name"]].get(name, 0.0)) for s in report.settings]
        for name in names
    ]
    chart = row_chart(rows, "share of the rows", 0.0, min(100.0, highest * 1.08) or 1.0, unit=" %")
    return {
        "chart": chart if len(names) > 1 else None,
        "table": table(["source", "pool", *(s["name"] for s in report.settings)], each),
        "left_out": max(0, len(names) - SOURCES),
        "only": names[0] if len(names) == 1 else None,
    }


def _shares(report: Report, runs: Sequence[int], side: str) -> dict[str, float]:
    """Mean over runs of each source's share."""
    each = [report.runs[i].results["selection"].get("sources", {}) for i in runs]
    names = dict.fromkeys(name for one in each for name in one)
    return {n: float(np.mean([one.get(n, {}).get(side, 0.0) for one in each])) for n in names}


def _share(report: Report, setting: dict[str, Any], share: float) -> dict[str, Any]:
    return cell(f"{share:.1%}", report.link(setting["runs"][0], "selection_report.json"), share)


def truth(report: Report) -> dict[str, Any] | None:
    """Of a pool that was made, as the sandbox's is: kinds of rows in it and among the picks."""
    known = {s["name"]: (s["runs"][0], report.runs[s["runs"][0]].written("truth"))
             for s in report.settings}  # fmt: skip
    kinds = {name: (run, facts["kind"]) for name, (run, facts) in known.items() if facts}
    if not kinds:
        return None
    first_run, first = next(iter(kinds.values()))

    def shown(run: int, share: float) -> dict[str, Any]:
        return cell(f"{share:.0%}", report.link(run, "truth.json"), share)

    rows = [
        [cell(kind), shown(first_run, first[kind]["pool"])]
        + [shown(run, of.get(kind, {"selection": 0.0})["selection"]) for run, of in kinds.values()]
        for kind in first
    ]
    return table(["kind of row", "pool", *kinds], rows)


def lengths(report: Report, pool: PoolSeen) -> dict[str, Any] | None:
    """How long answers are in the pool and among the picks: from the 5 % to the 95 % quantile."""
    sides = [("pool", "pool", report.link(0, "selection_report.json"), pool.lengths)]
    for setting in report.drawn:
        runs = [i for i in setting["runs"] if i in pool.chose]
        picks = [row for i in runs for row in report.runs[i].selection["indices"]]
        if picks:
            href = report.link(setting["runs"][0], "selection.json")
            sides.append((setting["name"], setting["colour"], href, pool.lengths[picks]))
    found = [(*of, np.quantile(values, QUANTILES)) for *of, values in sides if values.any()]
    if not found:
        return None
    low = max(1.0, min(float(q[0]) for *_, q in found))
    high = max(max(float(q[-1]) for *_, q in found), low + 1)
    rows = []
    for name, colour, href, q in found:
        told = f"{name}: half from {q[1]:.0f} to {q[3]:.0f}, median {q[2]:.0f} {pool.unit}"
        marks = [
            _mark("range", told, colour, href, low=float(q[0]), high=float(q[4])),
            _mark("bar", told, colour, href, low=float(q[1]), high=float(q[3])),
            _mark("tick", told, colour, href, at=float(q[2])),
        ]
        rows.append({"label": name, "note": f"median {q[2]:,.0f}", "href": href, "marks": marks})
    return {"chart": row_chart(rows, f"{pool.unit} of an answer", low, high, log=True),
            "medians": {name: float(q[2]) for name, *_, q in found}}  # fmt: skip


def trust(report: Report, pool: PoolSeen | None) -> dict[str, Any] | None:
    """How far rows were trusted: the line, each source, weights of the pool and of the picks."""
    weighed = [i for i, run in enumerate(report.runs) if run.reliability]
    if not weighed:
        return None
    first = weighed[0]
    facts = report.runs[first].reliability
    assert facts is not None
    href = report.link(first, "reliability.json")
    rows = [
        [cell(name), cell(f"{one['rows']:,}", href, one["rows"]),
         cell(f"{one['untrustworthy']:.0%}", href, one["untrustworthy"]),
         cell(f"{one['median_consensus']:.3f}", href, one["median_consensus"])]
        for name, one in (facts["by_source"] or {}).items()
    ]  # fmt: skip
    columns = ["source", "rows", "untrustworthy, estimated", "median consensus"]
    return {
        "line": trust_line(facts),
        "facts": facts,
        "href": href,
        "run": report.name_of(first),
        "table": table(columns, rows) if rows else None,
        "chart": _weights(report, pool),
    }


def _weights(report: Report, pool: PoolSeen | None) -> dict[str, Any] | None:
    """Shares of rows by weight, of the pool and of those settings that weighed rows."""
    if pool is None or pool.reliability is None:
        return None
    weights = pool.reliability["weight"]
    highest = float(np.quantile(weights, 0.995)) or 1.0
    edges = np.linspace(0.0, highest, BINS + 1)
    first = next((i for i in pool.chose if report.runs[i].reliability), pool.chose[0])
    sides: list[tuple[str, Any, str | None, np.ndarray]] = [
        ("pool", "pool", report.link(first, "reliability.json"), weights)
    ]
    for setting in report.drawn:
        runs = [
            i for i in setting["runs"] if i in pool.chose and report.runs[i].selection["weights"]
        ]
        if picks := [row for i in runs for row in report.runs[i].selection["indices"]]:
            href = report.link(runs[0], "reliability.json")
            sides.append((setting["name"], setting["colour"], href, weights[picks]))
    series = []
    for name, colour, href, values in sides:
        counts = np.histogram(np.clip(values, 0.0, highest), edges)[0] / len(values)
        xs, ys = np.repeat(edges, 2)[1:-1].tolist(), np.repeat(100 * counts, 2).tolist()
        told = {"name": name, "colour": colour, "href": href}
        series.append({**told, "x": xs, "y": ys, "area": name == "pool"})
    chart = line_chart(series, "weight (0: not trusted, 1: typical)", "% of rows")
    return {**chart, "names": [(name, colour) for name, colour, *_ in sides]}


def _share_dot(report: Report, setting: dict[str, Any], share: float) -> dict[str, Any]:
    href = report.link(setting["runs"][0], "selection_report.json")
    told = f"{setting['name']}: {share:.1%}"
    return _mark("dot", told, setting["colour"], href, at=100 * share)


def _mark(kind: str, title: str, colour: Any, href: str | None, **where: float) -> dict[str, Any]:
    return {"kind": kind, "title": title, "colour": colour, "href": href, **where}


def averages(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average scores with their intervals, one under the other."""
    ends = [v for one in found for v in (one["low"], one["high"], one["mean"]) if v is not None]
    low, high = min(ends), max(ends)
    room = max((high - low) * 0.08, 0.5)
    rows = []
    for one in found:
        told = f"{one['name']}: {one['mean']:.1f}"
        marks = [_mark("dot", told, one["colour"], one["href"], at=one["mean"])]
        if one["low"] is not None:
            told += f", 95 % interval {one['low']:.1f} to {one['high']:.1f}"
            span = {end: one[end] for end in ("low", "high")}
            marks.insert(0, _mark("range", told, one["colour"], one["href"], **span))
        note = {"note": f"{one['mean']:.1f}", "href": one["href"]}
        rows.append({"label": one["name"], **note, "marks": marks})
    return row_chart(rows, "average score (points of 100)", max(0.0, low - room), high + room)


def stages(costs: dict[str, Any]) -> dict[str, Any] | None:
    """Time by stage, one bar for each setting."""
    highest = max((sum(bar["seconds"].values()) for bar in costs["bars"]), default=0.0)
    if highest <= 0:
        return None
    minutes = highest >= 180
    rows = []
    for bar in costs["bars"]:
        at, marks = 0.0, []
        for number, stage in enumerate(costs["stages"]):
            seconds = bar["seconds"][stage] / (60 if minutes else 1)
            told = f"{stage}: {seconds:.1f} {'minutes' if minutes else 'seconds'}"
            marks.append(_mark("bar", told, number % 8, bar["href"], low=at, high=at + seconds))
            at += seconds
        rows.append({"label": bar["name"], "marks": marks})
    unit = "minutes" if minutes else "seconds"
    return row_chart(rows, unit, 0.0, highest / (60 if minutes else 1))
