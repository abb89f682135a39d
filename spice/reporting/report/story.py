"""The first screen of a report, and what was asked: sentences for who has a minute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spice.reporting.health import health_line
from spice.reporting.report.facts import Report, cell, clock, common, table

PLAIN = ("random", "random_within_sources", "none", "full")  # choose by nothing
#: what a reader should know of a pool's reading, by the key of an audit
READ = {
    "rows": "rows",
    "tokens": "tokens",
    "supervised_tokens": "tokens that are learnt",
    "answers": "answers",
    "supervised_answers": "answers that are learnt",
    "cut_answers": "answers cut: they did not fit",
    "untaught_answers": "answers exempt from learning",
    "truncated_rows": "rows cut to fit",
    "unsupervised_rows": "rows that leave nothing to learn",
    "exact_duplicates": "exact duplicates",
}


def title(report: Report) -> str:
    """What the page is of."""
    if len(report.runs) == 1 and not report.jobs:
        selection = report.runs[0].selection
        return f"{selection['selector']}: {selection['k']:,} of {selection['n']:,} rows"
    selectors = list(dict.fromkeys(s["selector"] for s in report.settings))
    among = (
        f" · {', '.join(selectors[:4])}{' …' if len(selectors) > 4 else ''}" if selectors else ""
    )
    return f"{len(report.runs)} run{'s' * (len(report.runs) != 1)}{among}"


def headline(report: Report, scores: dict[str, Any] | None, costs: dict[str, Any]) -> list[dict]:
    """Four answers: what was chosen, why, whether it helped, what it cost."""
    if not report.runs:
        return []
    return [_chosen(report), _why(report), _helped(report, scores), _cost(report, costs)]


def _chosen(report: Report) -> dict[str, Any]:
    sizes = sorted({run.selection["k"] for run in report.runs if run.selection["k"]})
    n = sorted({run.selection["n"] for run in report.runs})
    k = "–".join(f"{size:,}" for size in dict.fromkeys(sizes[:1] + sizes[-1:])) or "0"
    of = "–".join(f"{size:,}" for size in dict.fromkeys((n[0], n[-1])))
    settings = f", in each of {len(report.settings)} settings" if len(report.settings) > 1 else ""
    most = "up to " if len(sizes) > 1 else ""
    share = f"{most}{sizes[-1] / n[-1]:.1%} of the pool{settings}." if sizes else "Nothing."
    first = first_setting(report)
    number = first["runs"][0]
    told = f"{share[:1].upper()}{share[1:]} {_typical(report, first)}"
    return {"ask": "What was chosen?", "big": f"{k} of {of} rows", "text": told,
            "href": report.link(number, "selection.json"), "to": "#why"}  # fmt: skip


def _typical(report: Report, setting: dict[str, Any]) -> str:
    """The lengths and the mix of a choice beside the pool's, in a sentence or two."""
    facts = report.runs[setting["runs"][0]].results["selection"]
    median = facts.get("median_length") or {}
    whose = f"{setting['selector']}: " if len(report.settings) > 1 else ""
    told = []
    if median.get("pool") and median.get("picked"):
        told.append(f"median answer {median['picked']:.0f} tokens, the pool's {median['pool']:.0f}")
    far = facts.get("mix_distance")
    if len(facts.get("sources", {})) > 1 and far is not None:
        moved = f"its mix of sources {far:.0%} away from the pool's"
        told.append("its sources as in the pool" if far < 0.005 else moved)
    text = "; ".join(told)
    return f"{whose}{text if whose else text[:1].upper() + text[1:]}." if told else ""


def first_setting(report: Report) -> dict[str, Any]:
    """The one that a page is told by: of those that chose by anything the best, or the first.

    That is the one with the highest average; without scores they are alike.
    """

    def average(number: int) -> float:
        return report.lines[number].average.value or 0.0

    chose = [i for i, s in enumerate(report.settings) if s["selector"] not in PLAIN]
    return report.settings[max(chose, key=average, default=0)]


def _why(report: Report) -> dict[str, Any]:
    first = first_setting(report)
    run = report.runs[first["runs"][0]]
    told = [report.described(first["selector"])]
    if (information := run.selection["information"]) is not None:
        told.append(f"Together the picks inform by {information:.1f} nats.")
    if facts := run.reliability:
        told.append(
            f"{facts['not_trusted']:,} of {facts['rows']:,} rows are not trusted; weights decided "
            f"{facts['changed_by_weights']:,} picks."
        )
    href = report.link(first["runs"][0], "selection_report.json")
    return {"ask": "Why these?", "big": first["selector"], "text": " ".join(told),
            "href": href, "to": "#why"}  # fmt: skip


def _helped(report: Report, scores: dict[str, Any] | None) -> dict[str, Any]:
    ask = {"ask": "Did it help?", "to": "#scores", "href": report.link(0, "results.json")}
    if scores is None:
        return {**ask, "big": "not measured", "to": "#scores",
                "text": "No benchmark was scored in what this page is of."}  # fmt: skip
    verdicts = [one["text"] for one in scores["verdicts"]]
    if not verdicts:
        best = max(scores["averages"], key=lambda one: one["mean"])
        alone = len(scores["averages"]) == 1
        text = f"{best['name']}{'' if alone else ' scores highest'}; nothing says by how much of " \
               "it is luck, for no uniform draw stands beside it."  # fmt: skip
        return {**ask, "big": f"{best['mean']:.1f} points", "text": text}
    above, below = ([v for v in verdicts if f" is {side} " in v] for side in ("above", "below"))
    text = (above or below or verdicts)[0]
    if above and below:
        worse = ", ".join(sentence.partition(" is below ")[0] for sentence in below)
        return {**ask, "big": "better than chance", "text": f"{text} Worse than chance: {worse}."}
    if not (above or below):
        return {**ask, "big": "no difference shown", "text": text}
    return {**ask, "big": "better than chance" if above else "worse than chance", "text": text}


def _cost(report: Report, costs: dict[str, Any]) -> dict[str, Any]:
    here, alone = costs["here"], costs["alone"]
    text = "from nothing to results" if len(report.runs) == 1 else (
        f"for {len(report.runs)} runs; each by itself they would take {clock(alone)} in all"
    )  # fmt: skip
    if len(report.runs) == 1 and here < 0.8 * alone:
        text = f"since much was in the cache already; from nothing {clock(alone)}"
    hardware = report.runs[0].results.get("hardware") or {}
    where = ", ".join(dict.fromkeys(hardware.get("gpus") or [])) or (
        f"{hardware['cores']} CPU cores" if hardware.get("cores") else ""
    )
    return {"ask": "What did it cost?", "big": clock(here), "to": "#cost",
            "text": f"{text}{f', on {where}' if where else ''}.",
            "href": report.link(0, "results.json")}  # fmt: skip


def asked(report: Report) -> dict[str, Any]:
    """Each run by what was asked of it, and what they have in common."""
    rows = [_run_line(report, number) for number in range(len(report.runs))]
    columns = ["run", "setting", "seed", "budget", "k", "F(S), nats", "average", "time", "files"]
    return {
        "table": table(columns, rows),
        "facts": [
            {"name": name, "values": values}
            for name, values in _common(report)
            if any(value["text"] for value in values)
        ],
    }


def _run_line(report: Report, number: int) -> list[dict[str, Any]]:
    run, setting = report.runs[number], report.name_of(number)
    colour = next(s["colour"] for s in report.settings if number in s["runs"])
    results, selection = run.results, run.selection
    href, information = report.link(number, "results.json"), selection["information"]
    average = results["average"]
    seconds = sum(results["seconds"].values())
    card = report.link(number, "card.html")
    return [
        cell(run.folder.name, report.href(run.folder), number),
        cell(setting, colour=colour),
        cell(results["seed"], report.link(number, "config.yaml"), results["seed"]),
        cell(_budget(results["budget"]), report.link(number, "config.yaml"), results["budget"]),
        cell(f"{selection['k']:,}", report.link(number, "selection.json"), selection["k"]),
        cell(None if information is None else f"{information:.1f}",
             report.link(number, "selection.json"), information or -1.0),
        cell(None if average is None else f"{100 * average:.1f}", href,
             -1.0 if average is None else average),
        cell(clock(seconds), href, seconds),
        cell("card" if card else "", card),
    ]  # fmt: skip


def _budget(budget: float) -> str:
    return f"{100 * budget:.3g} %" if isinstance(budget, float) and budget <= 1 else f"{budget:,}"


def _common(report: Report) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What the runs have been asked with; every value that some run has, with its file."""

    def values(name: str, file: str, of: Any) -> tuple[str, list[dict[str, Any]]]:
        found: dict[str, str | None] = {}
        for number, run in enumerate(report.runs):
            found.setdefault(of(run), report.link(number, file))
        return name, [{"text": text, "href": href} for text, href in found.items()]

    shared = common([run.results["overrides"] for run in report.runs])
    name = "overrides" if len(report.runs) == 1 else "overrides of all"
    yield values(name, "config.yaml", lambda r: " ".join(shared))
    yield values("model", "results.json", lambda r: r.results["model"])
    yield values("proxy", "results.json", lambda r: r.results["proxy"] or "none was read")
    yield values("pool", "results.json", lambda r: f"key {r.results['inputs'].get('pool', '?')}")
    yield values("versions", "results.json", lambda r: _listed(r.results["versions"]))
    yield values("git", "results.json", lambda r: r.results.get("git") or "")
    yield values("machine", "results.json", lambda r: _machine(r.results.get("hardware") or {}))


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {told}" for name, told in versions.items())


def _machine(hardware: dict[str, Any]) -> str:
    gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
    if not hardware:
        return ""
    return (f"{hardware.get('machine')}, {hardware.get('cores')} cores, "
            f"{hardware.get('memory_gb')} GB of memory, {gpus}")  # fmt: skip


def pool_facts(report: Report) -> dict[str, Any]:
    """How the pool was read, by the first run whose audit is there; warnings of all."""
    number = next((i for i, run in enumerate(report.runs) if run.audit), 0)
    run, href = report.runs[number], report.link(number, "audit.json")
    audit = run.audit or {}
    roles = {role: facts for role, facts in audit.items()
             if isinstance(facts, dict) and "supervised_tokens" in facts}  # fmt: skip
    rows = [
        [cell(told), *(cell(f"{facts[key]:,}", href, facts[key]) for facts in roles.values())]
        for key, told in READ.items()
    ]
    columns = ["as it is read by the", *roles]
    return {
        "table": table(columns, rows) if roles else None,
        "template": ", ".join(f"{role}: {facts['template']} template, at most "
                              f"{facts['max_tokens']:,} tokens" for role, facts in roles.items()),
        "href": href,
        "skipped": audit.get("skipped", []),
        "changed": audit.get("changed", {}),
        "unread": audit.get("unread", []),
        "warnings": _warnings(report),
        "health": _health(report),
        "excluded": run.results["selection"].get("excluded", {}),
        "excluded_from": report.link(number, "selection_report.json"),
    }  # fmt: skip


def _warnings(report: Report) -> list[dict[str, Any]]:
    """What a run's owner should know, each once, with the first setting that it is said of."""
    found: dict[str, dict[str, Any]] = {}
    for setting in report.settings:
        for number in setting["runs"]:
            for text in report.runs[number].results["selection"].get("warnings", []):
                href = report.link(number, "selection_report.json")
                found.setdefault(text, {"text": text, "href": href, "setting": setting["name"]})
    return list(found.values())


def _health(report: Report) -> dict[str, Any] | None:
    for number, run in enumerate(report.runs):
        if facts := run.written("health"):
            return {"line": health_line(facts), "href": report.link(number, "health.json")}
    return None
