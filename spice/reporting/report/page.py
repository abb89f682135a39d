"""One HTML file that holds all of a report: no part of it is read off a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spice import __version__
from spice.messages import shown
from spice.reporting.report import chosen, story
from spice.reporting.report.charts import heat_map
from spice.reporting.report.facts import Report, clock
from spice.reporting.report.rows import PoolSeen, packed
from spice.storage.files import publish

SECTIONS = {
    "settings": ("scores", "Scores"),
    "sources": ("why", "Why these"),
    "overlaps": ("overlap", "Overlap"),
    "map": ("map", "Map"),
    "rows": ("rows", "Rows"),
    "pool": ("pool", "Pool"),
    "states": ("jobs", "Sweep"),
    "costs": ("cost", "Cost"),
    "asked": ("asked", "Asked"),
}


def write(path: Path, report: Report, pool: PoolSeen | None, notes: Sequence[str]) -> None:
    """Draw a report and write it, whole or not at all."""
    text = render(report, pool, notes)
    publish(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def render(report: Report, pool: PoolSeen | None, notes: Sequence[str]) -> str:
    """The page, with the pool's rows in it if they could be read."""
    content = {**_facts(report, pool), **_rows(report, pool)}
    content["notes"] = [*notes, *(pool.notes if pool else [])]
    content["sections"] = list(_sections(content))
    environment = _environment()
    for name, file in (("styles", "styles.css"), ("script", "script.js")):
        source = environment.loader.get_source(environment, f"report/{file}")[0]  # type: ignore[union-attr]
        # our own files, which hold no end of their tags
        content[name] = Markup(source)  # nosec B704
    return environment.get_template("report/page.html.j2").render(content)


def _facts(report: Report, pool: PoolSeen | None) -> dict[str, Any]:
    """All but the rows themselves."""
    scores, costs, overlaps = report.scores(), report.costs(), report.overlaps()
    if overlaps:
        overlaps["chart"] = heat_map(overlaps["names"], overlaps["values"], overlaps["hrefs"])
    files = ("results.json", "selection.json", "selection_report.json")
    first = story.first_setting(report)["runs"][0] if report.runs else None
    settings = [
        {**s, "described": report.described(s["selector"]),
         "href": report.link(s["runs"][0], "config.yaml")} for s in report.settings
    ]  # fmt: skip
    return {
        "title": story.title(report),
        "version": __version__,
        "headline": story.headline(report, scores, costs),
        "states": report.states(),
        "settings": settings,
        "suggested": next(
            (s["selector"] for s in settings if s["selector"] not in story.PLAIN), "spice_consensus"
        ),
        "drawn": report.drawn,
        "legend": [("pool", "pool"), *((s["name"], s["colour"]) for s in report.drawn)],
        "runs": len(report.runs),
        "file": {name: first is not None and report.link(first, name) for name in files},
        "scores": scores,
        "averages": chosen.averages(scores["averages"]) if scores else None,
        "sources": chosen.sources(report),
        "lengths": chosen.lengths(report, pool) if pool else None,
        "truth": chosen.truth(report),
        "trust": chosen.trust(report, pool),
        "curves": chosen.curves(report),
        "otherwise": report.otherwise(),
        "overlaps": overlaps,
        "pool": story.pool_facts(report) if report.runs else None,
        "costs": costs,
        "here": clock(costs["here"]),
        "stages": chosen.stages(costs),
        "asked": story.asked(report),
    }


def _rows(report: Report, pool: PoolSeen | None) -> dict[str, Any]:
    if pool is None or not len(pool.rows):
        return {"rows": None, "packed": ""}
    selections = {i: report.runs[i].selection for i in pool.chose}
    labels = {
        i: {"name": shown(report.name_of(i)), "file": report.link(i, "selection.json")}
        for i in pool.chose
    }
    text, facts = packed(pool, selections, labels)
    # base64 has no sign that HTML gives a meaning
    return {"rows": facts, "packed": Markup(text)}  # nosec B704


def _sections(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The parts that this page has, in its order."""
    there = {
        **content,
        "map": content["rows"] and content["rows"]["shares"],
        **({} if content["settings"] else {"sources": None, "costs": None, "asked": None}),
    }
    return (section for name, section in SECTIONS.items() if there[name])


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spice.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = lambda text, most: (
        text if len(text) <= most else f"{text[:most]} …"
    )
    return environment


def _shown(value: Any) -> Any:
    """Whatever a page prints, its controls spelt out; line breaks stay."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return shown(value, lines=True) if plain else value
