"""The report: its facts are those of the files, its page holds all, and texts do nothing in it."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from compose import job
from hypothesis import given
from hypothesis import strategies as st

from spice.cli.report import report as command
from spice.errors import InputError
from spice.pipeline.jobs import Jobs
from spice.pipeline.report import FILE, report
from spice.pipeline.run import run as pipeline
from spice.records import Row
from spice.reporting.report import gradient_map as mapping
from spice.reporting.report.charts import heat_map, line_chart, row_chart, ticks
from spice.reporting.report.facts import Report, clock, common
from spice.reporting.report.finished import read
from spice.reporting.report.rows import PoolSeen, embedded, gains_left, packed
from spice.storage.files import read_json

EVIL = (
    "</script><script>window.hurt = 1</script>", "<img src=x onerror='window.hurt = 1'>",
    "{{ 7 * 7 }} {% raw %}", "<!-- ", "\u202ereversed \x1b[31m", "]]> & &amp; \" '",
    "javascript:window.hurt=1",
)  # fmt: skip


#: of the method, not of the runs, or of the page itself
CONSTANT = re.compile(
    r"95 %|0: no pick pulls|1: straight against it|seed=0,1,2|Charts show \d+ of \d+ settings"
)
BLOCKS = ("p", "li", "tr", "article", "figure", "dd")


class Unlinked(HTMLParser):
    """Numbers on a page that no link to a file stands beside, each with the block it is in.

    In a chart every mark is a link itself; ticks and labels of axes are numbers of nobody.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.found: list[str] = []
        self.marks: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("polyline", "rect", "circle") and not any(
            one["tag"] == "a" for one in self.open
        ):
            self.marks.append(f"{tag} {given}")
        if tag not in ("meta", "link", "input", "br", "path", "rect", "circle", "polygon"):
            self.open.append({"tag": tag, "class": given.get("class") or "", "told": "", "link": 0})
        href = given.get("href") or "#"
        if tag == "a" and not href.startswith("#"):
            for one in self.open:
                one["link"] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1]["tag"] != tag:
            return
        block = self.open.pop()
        if block["tag"] in ("script", "style", "nav", "footer", "header", "thead", "h1"):
            return
        if {"tick", "axis", "label"} & set(block["class"].split()) or block["tag"] == "a":
            return
        told = CONSTANT.sub("", block["told"])
        if block["tag"] in BLOCKS and block["link"]:
            return
        if block["tag"] == "section" and re.search(r"\d", told):
            self.found.append(" ".join(told.split()))
        elif self.open:
            self.open[-1]["told"] += f" {told}"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1]["told"] += data


class Page(HTMLParser):
    """The tags of a page with their attributes, and what is shown."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown, self.rows, self.inside = "", None, ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if dict(attrs).get("id") != "pool-rows" else "rows"

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "rows":
            self.rows = json.loads(gzip.decompress(base64.b64decode(data)))
        elif self.inside not in ("script", "style"):
            self.shown += f"{data} "

    @property
    def text(self) -> str:
        return " ".join(self.shown.split())

    @property
    def links(self) -> list[str]:
        found = [attributes.get("href") for _, attributes in self.tags]
        return [href for href in found if href]


def described(selector: str) -> str:
    return f"What {selector} is."


def page(*folders: Path, to: Path | None = None) -> Page:
    return Page(report(folders, to, described))


def page_text(path: Path) -> str:
    return Page(path).text


Go = Callable[..., Path]


@pytest.fixture(scope="module")
def go(make_checkpoint: Callable[..., Path]) -> Go:
    """Run the pipeline without tuning and scores on a pool of a folder's; returns the run's."""

    def go(base: Path, name: str, *overrides: str) -> Path:
        config = job(
            "data=jsonl", f"data.paths=[{base / 'pool.jsonl'}]", "budget=0.2", "finetune=none",
            "proxy=local", f"proxy.path={make_checkpoint('llama')}", "benchmarks=none",
            "logger=csv", "trainer.progress=false", f"cache_dir={base / 'cache'}", *overrides,
        )  # fmt: skip
        pipeline(config, base / name)
        return base / name

    return go


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, str]], go: Go) -> Path:
    """A folder with a pool, a cache, and a sweep of four finished runs; not to be changed."""
    base = tmp_path_factory.mktemp("base")
    lines = [json.dumps(record) for record in records]
    (base / "pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    each = ["spice_consensus"], ["spice"], ["spice", "seed=1"], ["random"]
    for number, (selector, *more) in enumerate(each):
        go(base, f"sweep/{number}", f"selector={selector}", *more)
    return base


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """The run of it whose rows are weighed."""
    return base / "sweep" / "0"


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """The same folder once more, to be changed."""
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    for config in copy.rglob("config.yaml"):
        config.write_text(config.read_text().replace(str(base), str(copy)))
    return copy


def test_a_single_run_without_scores(run: Path) -> None:
    shown, chosen, results = page(run), read_json(run / "selection.json"), read_json(
        run / "results.json"
    )  # fmt: skip
    assert "spice_consensus: 8 of 40 rows" in shown.text
    assert "What spice_consensus is." in shown.text
    assert f"inform by {chosen['information']:.1f} nats" in shown.text
    assert "not measured" in shown.text
    assert f"{results['selection']['sources']['math']['picked']:.1%}" in shown.text
    assert results["versions"]["torch"] in shown.text
    assert "supervised" not in shown.text
    audit = read_json(run / "audit.json")["proxy"]
    assert f"{audit['supervised_tokens']:,}" in shown.text


def test_the_rows_in_the_page_are_the_pools_with_what_is_known_of_them(run: Path) -> None:
    rows, chosen = page(run).rows, read_json(run / "selection.json")
    assert len(rows["id"]) == 40
    [own] = rows["runs"]
    assert [rows["id"][row] for row in own["picks"]] == chosen["ids"]
    assert own["order"] == list(range(1, 9))
    assert own["gains"] == pytest.approx(chosen["gains"], rel=1e-3)
    picked = [json.loads(line) for line in (run / "selected.jsonl").read_text().splitlines()]
    for row, record in zip(own["picks"], picked, strict=True):
        assert rows["turns"][row] == [f"u{record['instruction']}", f"a{record['response']}"]
        assert rows["sources"][rows["source"][row]] == record["source"]
    weights = [rows["weight"][row] for row in own["picks"]]
    assert weights == pytest.approx(chosen["weights"], rel=1e-3)
    assert len(rows["x"]) == len(rows["left"]) == 40
    assert max(rows["left"][row] for row in range(40)) <= max(own["gains"])


def test_every_link_leads_to_a_file_from_wherever_the_page_lies(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a page's #place"
    for shown, folder in ((page(run), run), (page(run, to=elsewhere / "x.html"), elsewhere)):
        links = [link for link in shown.links if not link.startswith(("#", "data:"))]
        assert len(links) > 20
        assert not [link for link in links if not (folder / unquote(link)).exists()]
        ids = {attributes.get("id") for _, attributes in shown.tags}
        assert {link[1:] for link in shown.links if link.startswith("#")} <= ids


def test_every_number_leads_to_the_file_it_comes_from(base: Path, run: Path) -> None:
    for folder in (base / "sweep", run):
        path = report([folder], None, described)
        read = Unlinked(path)
        assert read.found == []
        assert read.marks == []
        broken = re.sub("</?a[^>]*>", "", path.read_text(encoding="utf-8"))
        path.write_text(broken, encoding="utf-8")
        assert len(Unlinked(path).found) > 3  # it does see what leads nowhere


def test_nothing_is_asked_of_a_network(run: Path) -> None:
    shown = page(run)
    sources = [a["src"] for _, a in shown.tags if "src" in a]
    assert not sources
    assert not [link for link in shown.links if "//" in link]
    policy = next(a["content"] for _, a in shown.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "url(" not in (run / FILE).read_text(encoding="utf-8")


def test_a_sweep_tells_its_jobs_its_choices_and_how_far_they_agree(copied: Path) -> None:
    sweep, jobs = copied / "sweep", Jobs(copied / "sweep")
    each = [["selector=spice"], ["seed=1"], ["seed=2"], ["selector=random"], ["budget=99"]]
    jobs.begin([[*own, "logger=csv"] for own in each])
    for number, own in enumerate(each[:4]):
        jobs.note(number, own, state="finished", folder=str(number), seconds=1.5)
    jobs.note(4, ["budget=99", "logger=csv"], state="failed", error="no <b>such</b> pool")
    shares = {"sound": {"pool": 0.5, "selection": 0.75}}
    (sweep / "0" / "truth.json").write_text(json.dumps({"kind": shares}))
    shown = page(sweep)
    assert "kind of row pool spice_consensus sound 50% 75%" in shown.text
    assert "4 finished" in shown.text
    assert "1 failed" in shown.text
    assert "no <b>such</b> pool" in shown.text
    assert "of all jobs: logger=csv" in shown.text
    ids = [read_json(sweep / str(n) / "selection.json")["ids"] for n in range(4)]
    told = Report(*read([sweep]), sweep, described)
    assert [s["name"] for s in told.settings] == ["spice_consensus", "spice", "random"]
    assert [s["runs"] for s in told.settings] == [[0], [1, 2], [3]]
    overlaps = told.overlaps()
    assert overlaps is not None
    agreed = [[len({*a} & {*b}) / len({*a} | {*b}) for b in ids] for a in ids]
    assert np.allclose(overlaps["values"], agreed)
    assert [one["name"] for one in shown.rows["runs"]] == [told.name_of(i) for i in range(4)]


def test_scores_have_intervals_and_a_verdict(copied: Path) -> None:
    two = [copied / "sweep" / name for name in "13"]
    for folder, right in zip(two, (0.8, 0.3), strict=True):
        _scored(folder, right)
    shown = page(*two)
    assert "spice is above a uniform draw (+50.0 points" in shown.text
    assert "better than chance" in shown.text
    told = Report(*read(two), copied, described).scores()
    assert told is not None
    assert [one["mean"] for one in told["averages"]] == pytest.approx([80, 30])
    assert all(one["low"] < one["mean"] < one["high"] for one in told["averages"])
    read_back = Unlinked(copied / "sweep" / "1" / FILE)
    assert (read_back.found, read_back.marks) == ([], [])


def _scored(folder: Path, right: float) -> None:
    """As if a benchmark of 200 items had been asked, ``right`` of which are answered."""
    results = read_json(folder / "results.json")
    score = {"value": right, "stderr": 0.03, "metric": "acc", "shots": 0, "n": 200}
    results |= {"scores": {"quiz": score}, "average": right, "averaged_over": 1}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "samples").mkdir()
    items = [{"task": "quiz", "value": float(i < 200 * right)} for i in range(200)]
    (folder / "samples" / "quiz.jsonl").write_text("\n".join(map(json.dumps, items)))


def test_what_is_no_run_is_refused_in_a_line(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, why in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "no fini")):
        with pytest.raises(InputError, match=why):
            read([folder])
    run = copied / "sweep" / "0"
    results = read_json(run / "results.json")
    for broken, why in (
        ("{", r"results\.json: cannot be read"),
        ("[]", r"results\.json: holds no object"),
        (json.dumps({k: v for k, v in results.items() if k != "paid"}), "another version"),
    ):
        (run / "results.json").write_text(broken)
        with pytest.raises(InputError, match=why):
            read([run])
    (run / "results.json").write_text(json.dumps(results))
    (run / "selection.json").unlink()
    with pytest.raises(InputError, match=r"it has no selection\.json"):
        read([run])


def test_what_is_no_longer_there_is_said(copied: Path) -> None:
    run, pool = copied / "sweep" / "0", copied / "pool.jsonl"
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.name != FILE}
    shutil.rmtree(copied / "cache" / "gradients")
    shown = page(run)
    assert "the gradients are not in" in shown.text
    assert shown.rows["x"] is None
    assert not (copied / "cache" / "gradients").exists()  # nothing was read anew
    pool.write_text(pool.read_text().replace("Say", "Tell"))
    assert "the rows of the pool changed since" in page(run).text
    pool.unlink()
    shown = page(run)
    assert "No rows and no map:" in shown.text
    assert shown.rows is None
    assert "spice_consensus: 8 of 40 rows" in shown.text
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.name != FILE}


def test_a_choice_that_read_no_model_is_told_of_as_well(base: Path, tmp_path: Path) -> None:
    shown = page(base / "sweep" / "3", to=tmp_path)
    assert "No model has read the pool" in shown.text
    assert shown.rows["unit"] == "characters"
    assert shown.rows["weight"] is None
    assert shown.rows["runs"][0]["gains"] is None


def test_the_command_says_where_the_page_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command([str(run), "--to", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'x.html'}  0.")
    assert "SPICE on gradients weighed by" in page_text(tmp_path / "x.html")


@pytest.fixture(scope="module")
def hurtful(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, str]], go: Go
) -> Path:
    """A run over texts and sources that want to be more than texts."""
    base = tmp_path_factory.mktemp("evil")
    lines = [
        json.dumps({**record, "instruction": f"{record['instruction']} {EVIL[i % len(EVIL)]}",
                    "response": f"{EVIL[(i + 1) % len(EVIL)]} {record['response']}",
                    "source": EVIL[i % 2]})
        for i, record in enumerate(records)
    ]  # fmt: skip
    (base / "pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return go(base, "run", "selector=spice_consensus", "template.max_tokens=100")


def test_texts_and_names_stay_texts(hurtful: Path) -> None:
    shown = page(hurtful)
    assert [tag for tag, _ in shown.tags].count("script") == 2  # the rows, and our own
    assert not [tag for tag, _ in shown.tags if tag == "img"]
    handlers = [name for _, attributes in shown.tags for name in attributes if name[:2] == "on"]
    assert not handlers
    raw = (hurtful / FILE).read_text(encoding="utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", raw)
    assert EVIL[0] in shown.text  # the source's name, as it is
    turns = [turn for row in shown.rows["turns"] for turn in row]
    assert any(EVIL[0] in turn for turn in turns)
    assert not any("\u202e" in turn or "\x1b" in turn for turn in turns)


def table_of(n: int, weights: np.ndarray | None = None) -> PoolSeen:
    rows = [Row(f"{i:05}", f"Question {i}", "", f"Answer {i}", "ab"[i % 2]) for i in range(n)]
    table = None
    if weights is not None:
        table = np.zeros(n, dtype=[(name, "f8") for name in ("weight", "support", "opposition")])
        table["weight"] = weights
    return PoolSeen(rows, np.arange(n), "tokens", [0], reliability=table)


def choice(indices: list[int]) -> dict[int, dict[str, Any]]:
    gains = [1.0 / (t + 1) for t in range(len(indices))]
    return {0: {"indices": indices, "k": len(indices), "gains": gains, "scores": gains,
                "conflicts": gains}}  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_of_a_large_pool_all_picks_are_kept_and_the_best_of_the_others(
    n: int, most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    picks = rng.permutation(n)[: rng.integers(min(n, most) + 1)].tolist()
    weights = rng.integers(0, 5, n) / 4  # with ties
    kept = embedded(table_of(n, weights), choice(picks), most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(n, most)
    assert set(picks) <= set(kept)
    if n > most:
        best = [row for row in np.argsort(-weights, kind="stable") if row not in picks]
        assert set(best[: (most - len(picks)) // 2]) <= set(kept)
    assert kept == embedded(table_of(n, weights), choice(picks), most)


def test_a_page_stays_small_and_says_what_it_left_out() -> None:
    rng = np.random.default_rng(0)
    pool = table_of(700)
    letters = np.array([chr(i) for i in range(0x4E00, 0x4E00 + 4096)])
    pool.rows = [
        Row(f"{i:05}", f"Question {i}", "", "".join(rng.choice(letters, 900)), "a")
        for i in range(700)
    ]
    whole, facts = packed(pool, choice([5, 3]), {0: {"name": "spice", "file": None}}, limit=10**8)
    assert (facts["shown"], facts["cut"], facts["cut_rows"]) == (700, None, 0)
    text, facts = packed(
        pool, choice([5, 3]), {0: {"name": "spice", "file": None}}, limit=len(whole) // 2
    )
    content = json.loads(gzip.decompress(base64.b64decode(text)))
    assert len(text) <= len(whole) // 2
    assert facts["cut_rows"] == 700
    assert content["turns"][7][1] == f"a{pool.rows[7].response[: facts['cut']]} …"
    text, facts = packed(
        pool, choice([5, 3]), {0: {"name": "spice", "file": None}}, limit=len(whole) // 5
    )
    assert len(text) <= len(whole) // 5
    assert facts["shown"] < 700
    assert {5, 3} <= set(json.loads(gzip.decompress(base64.b64decode(text)))["position"])


def test_a_row_with_history_has_all_its_turns() -> None:
    pool = table_of(1)
    pool.rows = [Row("0", "and ü?", "in", "out", "a", (("hi", "ho"), ("x", "y")), "be kind")]
    text, _ = packed(pool, choice([0]), {0: {"name": "spice", "file": None}})
    [turns] = json.loads(gzip.decompress(base64.b64decode(text)))["turns"]
    assert turns == ["sbe kind", "uhi", "aho", "ux", "ay", "uand ü?\n\nin", "aout"]


@pytest.mark.parametrize("alpha", [0.5, 10.0])
def test_what_a_row_would_still_add_is_the_difference_of_two_determinants(alpha: float) -> None:
    G = np.random.default_rng(1).standard_normal((30, 12)).astype(np.float32)
    G[4] = np.nan
    picks = np.array([3, 17, 8])

    def information(rows: list[int]) -> float:
        S = G[rows].astype(np.float64)
        return float(np.linalg.slogdet(np.eye(len(S)) + alpha * S @ S.T)[1])

    found = gains_left(G, picks, alpha)
    for x in range(30):
        if x == 4:
            assert np.isnan(found[x])
        else:
            plain = information([*picks, x]) - information([*picks])
            assert found[x] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("held", [64, 10**6])
def test_the_map_is_that_of_the_singular_values(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the gradients are read at once, or two columns at a time."""
    monkeypatch.setattr(mapping, "HELD", held)
    rng = np.random.default_rng(2)
    G = rng.standard_normal((32, 2)) @ rng.standard_normal((2, 50)) * 3
    G = (G + rng.standard_normal((32, 50))).astype(np.float32)
    G[5], G[6] = 0.0, np.nan
    usable = np.setdiff1d(np.arange(32), [5, 6])
    X = G[usable] / np.linalg.norm(G[usable], axis=1, keepdims=True)
    U, S, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    found = mapping.gradient_map(G, np.arange(32))
    assert found is not None
    assert np.isnan(found.points[[5, 6]]).all()
    assert found.shares == pytest.approx(S[:2] ** 2 / np.square(S).sum(), rel=1e-3)
    plain, ours = (U * S)[:, :2], found.points[usable]
    signs = np.sign((plain * ours).sum(axis=0))
    assert np.allclose(ours, plain * signs, atol=1e-3)
    assert mapping.gradient_map(G[5:8], np.arange(3)) is None  # one row with a direction


def test_rows_that_are_not_fitted_lie_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "FITTED", 20)
    G = np.random.default_rng(3).standard_normal((40, 8))
    G[20:] = G[:20] * 2.0  # the same directions, so the same places
    found = mapping.gradient_map(G, np.arange(40))
    assert found is not None
    assert np.allclose(found.points[:20], found.points[20:])


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    slack = 1e-6 * span + 8 * np.spacing(abs(low) + span)  # of large numbers close together
    assert all(low - slack <= v <= low + span + slack for v in found)


def test_what_is_drawn_lies_in_the_drawing() -> None:
    line = {"name": "a", "colour": 0, "href": "x.json"}
    line |= {"x": [*range(1, 1001)], "y": [1 / t for t in range(1, 1001)]}
    chart = line_chart([line], "x", "y")
    points = [tuple(map(float, p.split(","))) for p in chart["series"][0]["line"].split()]
    assert len(points) <= 160
    assert all(0 <= x <= chart["width"] and 0 <= y <= chart["height"] for x, y in points)
    rows = [{"label": "a", "marks": [{"kind": "dot", "at": 1.0}, {"kind": "bar", "low": 1.0,
                                                                "high": 500.0}]}]  # fmt: skip
    chart = row_chart(rows, "x", 1.0, 100.0, log=True)
    assert [m.get("x_at", m.get("x_high")) for m in chart["rows"][0]["marks"]] == [
        chart["left"], chart["right"],
    ]  # fmt: skip
    chart = heat_map(["a", "b"], [[1.0, 0.5], [0.5, 1.0]], ["a.json", None])
    assert [cell["text"] for cell in chart["cells"]] == ["1.00", ".50", ".50", "1.00"]
    assert [cell["href"] for cell in chart["cells"]] == ["a.json", "a.json", None, None]


def test_small_things_are_told_as_people_say_them() -> None:
    assert [clock(s) for s in (0.25, 42, 90, 7200)] == ["0.25 s", "42 s", "2 min", "2.0 h"]
    assert common([["a=1", "b=2", "cache_dir=x"], ["b=2", "cache_dir=x"]]) == ["b=2"]
    assert common([]) == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, the system's own."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    sandboxed = [] if os.geteuid() else ["--no-sandbox"]  # root has no sandbox of Chromium's
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=sandboxed)
        yield opened
        opened.close()


def opened(browser: Any, path: Path, wide: int) -> tuple[Any, list[str]]:
    """A page in a window of its own, and what goes wrong in it."""
    window = browser.new_page(viewport={"width": wide, "height": 800})
    wrong: list[str] = []
    window.on("console", lambda message: wrong.append(message.text))
    window.on("pageerror", lambda error: wrong.append(str(error)))
    window.on("request", lambda asked: wrong.append(asked.url))
    window.on("dialog", lambda asked: wrong.append(asked.message))
    window.goto(path.as_uri())
    window.wait_for_function("document.documentElement.dataset.ready")
    assert wrong[:1] == [path.as_uri()]  # the page itself
    return window, wrong


def column(window: Any, rows: str, number: int) -> list[str]:
    return window.locator(f"{rows} td:nth-child({number})").all_inner_texts()


@pytest.mark.slow
@pytest.mark.parametrize("wide", [1400, 390])
def test_in_a_browser_tables_sort_and_rows_are_found(browser: Any, run: Path, wide: int) -> None:
    window, wrong = opened(browser, report([run], None, described), wide)
    assert window.evaluate("document.documentElement.scrollWidth") <= wide

    reliability = window.locator("h3:has-text('Reliability') ~ .table table").first
    reliability.locator("th button", has_text="rows").click()
    assert reliability.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    reliability.locator("th button", has_text="source").click()
    names = reliability.locator("td:first-child").all_inner_texts()
    assert names == sorted(names)

    assert window.locator("#found").inner_text() == "8 of 40 rows, 8 of them chosen selection.json"
    assert column(window, "#list tbody tr", 1) == [str(t) for t in range(1, 9)]
    window.select_option("select[name=chosen]", "")
    window.select_option("select[name=source]", label="math")
    assert window.locator("#found").inner_text().startswith("20 of 40 rows")
    window.fill("input[name=text]", "39. ADD")
    assert window.locator("#found").inner_text().startswith("1 of 40 rows")
    window.click("#list tbody tr")
    turns = window.locator("#row-text pre").all_inner_texts()
    assert turns == ["39. Add 39 and 40.", "79"]
    window.click("#row-close")
    window.click("#filters button[type=reset]")
    window.fill("input[name=gain-high]", "0")
    assert window.locator("#found").inner_text().startswith("0 of")

    window.click("#theme")
    assert window.evaluate("document.documentElement.dataset.theme") == "dark"
    assert wrong[1:] == []
    window.close()


@pytest.mark.slow
def test_in_a_browser_a_point_of_the_map_opens_its_row(browser: Any, run: Path) -> None:
    window, wrong = opened(browser, report([run], None, described), 1000)
    window.locator("#canvas").scroll_into_view_if_needed()
    x, y, row = window.evaluate("map.points.find(([, , i]) => state.order[i] === 1)")
    window.locator("#canvas").hover(position={"x": x, "y": y})
    assert window.locator("#tip").inner_text().startswith("pick 1 ·")
    window.locator("#canvas").click(position={"x": x, "y": y})
    assert window.evaluate("state.data.id")[row] in window.locator("#row-facts").inner_text()
    assert wrong[1:] == []
    window.close()


@pytest.mark.slow
def test_in_a_browser_hostile_texts_do_nothing(browser: Any, hurtful: Path) -> None:
    window, wrong = opened(browser, report([hurtful], None, described), 390)
    window.select_option("select[name=chosen]", "")
    window.click("#list tbody tr")
    while window.locator("#row-on").is_enabled():
        window.click("#row-on")
    assert window.evaluate("window.hurt") is None
    assert wrong[1:] == []
    window.close()
