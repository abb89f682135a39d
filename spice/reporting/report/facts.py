"""What a report tells of finished runs: plain numbers, texts, and the files they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from spice.reporting import tables
from spice.reporting.differences import Items, estimate
from spice.reporting.report.finished import SWEEP, Finished

DRAWN = 8  # settings that charts show; tables show all
COMPARED = 60  # runs of an overlap map
LYING = ("cache_dir=", "hydra.")  # overrides that say where things lie, of which folders tell

Cells = list[dict[str, Any]]


def cell(text: Any, href: str | None = None, sort: Any = None, **more: Any) -> dict[str, Any]:
    """One entry of a table: what it says, where it comes from, and what it is sorted by."""
    told = "–" if text is None else str(text)
    return {"text": told, "href": href, "sort": told if sort is None else sort, **more}


def table(columns: Sequence[str], rows: Sequence[Cells]) -> dict[str, Any]:
    """A table whose columns are sorted as numbers where their entries are some."""
    numeric = [
        bool(rows) and all(isinstance(row[i]["sort"], int | float) for row in rows)
        for i in range(len(columns))
    ]
    return {"columns": [*zip(columns, numeric, strict=True)], "rows": list(rows)}


class Report:
    """The facts of ``runs`` and of a sweep's ``jobs``, for a page that will lie in ``folder``.

    ``described`` says in a sentence what a selector is.
    """

    def __init__(
        self,
        runs: Sequence[Finished],
        jobs: Sequence[Mapping[str, Any]],
        folder: Path,
        described: Callable[[str], str],
    ) -> None:
        self.runs = list(runs)
        self.jobs = list(jobs)
        self.folder = folder
        self.described = described
        self.settings = self._settings()
        self.lines = self._lines()

    def href(self, path: Path) -> str:
        """A file as a link from the page."""
        return quote(Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix())

    def link(self, run: int, name: str) -> str | None:
        """A file of a run, if it is there."""
        path = self.runs[run].folder / name
        return self.href(path) if path.is_file() else None

    def _results(self) -> list[dict[str, Any]]:
        return [{**run.results, "folder": str(run.folder)} for run in self.runs]

    def _settings(self) -> list[dict[str, Any]]:
        """Runs that differ in nothing but the seed, in the order of the table."""
        groups: dict[tuple, list[int]] = {}
        for number, result in enumerate(self._results()):
            groups.setdefault(tuple(sorted(tables.label(result).items())), []).append(number)
        labels = [tables.label(self.runs[runs[0]].results) for runs in groups.values()]
        told = [name for name in tables.varied(labels) if name not in ("selector", "logger")]
        told = [name for name in told if len({label.get(name) for label in labels}) > 1]
        return [
            {
                "name": _named(label, told),
                "selector": label["selector"],
                "runs": runs,
                "colour": number % DRAWN,
            }
            for number, (label, runs) in enumerate(zip(labels, groups.values(), strict=True))
        ]

    def _lines(self) -> list[tables.Line]:
        return tables.compare(self._results()) if self.runs else []

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """The settings that charts show: the first, and the uniform draw if it is not among them.

        Those that chose nothing have nothing to be drawn.
        """
        some = [s for s in self.settings if any(self.runs[r].selection["k"] for r in s["runs"])]
        return some[:DRAWN]

    def name_of(self, run: int) -> str:
        """A run's setting, and its seed where the setting has several."""
        setting = next(s for s in self.settings if run in s["runs"])
        seed = f" · seed {self.runs[run].results['seed']}" if len(setting["runs"]) > 1 else ""
        return f"{setting['name']}{seed}"

    def scores(self) -> dict[str, Any] | None:
        """Averages with 95 % intervals, the table of benchmarks, and verdicts; None without any."""
        scored = [i for i, line in enumerate(self.lines) if line.average.value is not None]
        if not scored:
            return None
        benchmarks = list(dict.fromkeys(name for line in self.lines for name in line.scores))
        rows = [self._scored(i, benchmarks) for i in scored]
        return {
            "table": table(["setting", "seeds", "average", "95 % interval", *benchmarks], rows),
            "averages": [self._average(i) for i in scored],
            "verdicts": [self._verdict(one) for one in tables.verdicts(self.lines)],
            "seeds": max(len(self.lines[i].seeds) for i in scored),
        }

    def _verdict(self, verdict: tables.Verdict) -> dict[str, Any]:
        """A sentence, and the files of the two settings that it compares."""
        two = [self.settings[number] for number in (verdict.line, verdict.draw)]
        compared = [(one["name"], self.link(one["runs"][0], "results.json")) for one in two]
        return {"text": verdict.sentence, "compared": compared}

    def _average(self, number: int) -> dict[str, Any]:
        """A setting's average in points, its interval where the runs have left their answers."""
        line, setting = self.lines[number], self.settings[number]
        told = {"name": setting["name"], "colour": setting["colour"]}
        told["href"] = self.link(setting["runs"][0], "results.json")
        told |= {"mean": 100 * (line.average.value or 0.0), "low": None, "high": None}
        if _alike(list(line.items.values())):
            found = asdict(estimate(list(line.items.values())))
            told |= {name: found[name] for name in ("mean", "low", "high")}
        return told

    def _scored(self, number: int, benchmarks: Sequence[str]) -> Cells:
        line, setting = self.lines[number], self.settings[number]
        href, average = self.link(setting["runs"][0], "results.json"), self._average(number)
        low, high = average["low"], average["high"]
        told = [
            cell(setting["name"], colour=setting["colour"]),
            cell(len(line.seeds), href, len(line.seeds)),
            cell(line.average, href, line.average.value),
            cell(None if low is None else f"{low:.1f} to {high:.1f}", href, low),
        ]
        for name in benchmarks:
            score = line.scores.get(name, tables.Cell(None, None))
            samples = self.link(setting["runs"][0], f"samples/{name}.jsonl")
            sort = -1.0 if score.value is None else score.value
            told.append(cell(score, samples or href, sort))
        return told

    def overlaps(self) -> dict[str, Any] | None:
        """Jaccard of all pairs of runs, and of one run with what it would have chosen otherwise."""
        chosen = [(i, set(run.selection["ids"])) for i, run in enumerate(self.runs)]
        chosen = [(i, ids) for i, ids in chosen if ids][:COMPARED]
        if len(chosen) < 2:
            return None
        values = [[jaccard(one, other) for _, other in chosen] for _, one in chosen]
        shares = [len(ids) / self.runs[i].selection["n"] for i, ids in chosen]
        p = float(np.mean(shares))
        return {
            "names": [self.name_of(i) for i, _ in chosen],
            "hrefs": [self.link(i, "selection.json") for i, _ in chosen],
            "values": values,
            "by_chance": p / (2 - p) if p < 2 else 1.0,
            "left_out": sum(bool(r.selection["k"]) for r in self.runs) - len(chosen),
        }

    def otherwise(self) -> list[dict[str, Any]]:
        """How many picks the penalty and the weights decided, by the first run of each setting."""
        what = {"without_penalty": "the penalty λ", "without_weights": "the weights"}
        found = []
        for setting in self.settings:
            run = self.runs[setting["runs"][0]]
            ours = set(run.selection["indices"])
            for key, told in what.items():
                if (theirs := run.selection[key]) is not None:
                    changed = len(ours - set(theirs))
                    href = self.link(setting["runs"][0], "selection.json")
                    found.append({"setting": setting["name"], "what": told, "href": href,
                                  "changed": changed, "k": len(ours)})  # fmt: skip
        return found

    def states(self) -> dict[str, Any] | None:
        """Each job of a sweep and how it stands; None without a sweep."""
        if not self.jobs:
            return None
        shared = common([job["overrides"] for job in self.jobs])
        states = [job["state"] for job in self.jobs]
        failed = any(job.get("error") for job in self.jobs)
        columns = ["job", "overrides", "state", "time", *(["why it failed"] if failed else [])]
        return {
            "table": table(columns, [self._job(job, shared, failed) for job in self.jobs]),
            "count": {state: states.count(state) for state in dict.fromkeys(states)},
            "shared": shared,
            "href": self.href(self.jobs[0]["sweep"] / SWEEP),
            "all_fine": set(states) == {"finished"},
        }

    def _job(self, job: Mapping[str, Any], shared: Sequence[str], failed: bool) -> Cells:
        """A job's line; with the reason for which it failed if any did."""
        folder = job["sweep"] / job["folder"] if job.get("folder") else job["sweep"] / SWEEP
        record, seconds = self.href(job["sweep"] / SWEEP), job.get("seconds")
        own = " ".join(one for one in job["overrides"]
                       if one not in shared and not one.startswith(LYING))  # fmt: skip
        line = [
            cell(job["number"], self.href(folder), job["number"]),
            cell(own, wide=True),
            cell(job["state"], record, state=job["state"]),
            cell(None if seconds is None else clock(seconds), record, seconds or 0.0),
        ]
        return [*line, cell(job.get("error") or "", wide=True)] if failed else line

    def costs(self) -> dict[str, Any]:
        """Seconds by stage: what each setting takes from nothing, and what was spent here."""
        stages = list(dict.fromkeys(s for run in self.runs for s in spent(run.results)))
        rows, bars = [], []
        for setting in self.settings:
            each = [spent(self.runs[i].results) for i in setting["runs"]]
            mean = {s: float(np.mean([one.get(s, 0.0) for one in each])) for s in stages}
            href, total = self.link(setting["runs"][0], "results.json"), sum(mean.values())
            bars.append({"name": setting["name"], "href": href, "seconds": mean})
            numbers = [cell(clock(mean[s]) if mean[s] else "–", href, mean[s]) for s in stages]
            rows.append([cell(setting["name"], colour=setting["colour"]),
                         cell(clock(total), href, total), *numbers])  # fmt: skip
        here = sum(sum(run.results["seconds"].values()) for run in self.runs)
        told = table(["setting", "all", *stages], rows)
        alone = sum(sum(spent(run.results).values()) for run in self.runs)
        return {"table": told, "bars": bars, "stages": stages, "here": here, "alone": alone}


def _alike(runs: Sequence[Items]) -> bool:
    """Whether runs have left answers, and to the same items."""
    asked = [{b: {t: len(v) for t, v in tasks.items()} for b, tasks in r.items()} for r in runs]
    return bool(asked) and bool(asked[0]) and all(one == asked[0] for one in asked)


def spent(results: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage of whoever did it; of what is not kept in the cache, this run's own."""
    return {**results["seconds"], **results["paid"]}


def common(each: Sequence[Sequence[str]]) -> list[str]:
    """The overrides that all jobs or runs have, without where things lie."""
    first = each[0] if each else []
    return [one for one in first if all(one in other for other in each)
            and not one.startswith(LYING)]  # fmt: skip


def jaccard(one: set, other: set) -> float:
    """|A∩B| / |A∪B|; of empty sets 0."""
    return len(one & other) / max(len(one | other), 1)


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def _named(label: Mapping[str, str], told: Sequence[str]) -> str:
    more = [f"{name.rpartition('.')[2]} {label[name]}" for name in told if name in label]
    return ", ".join([label["selector"], *more])
