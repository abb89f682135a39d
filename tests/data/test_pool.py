"""Rows keep their ids, limits are fair samples, and mixes say what they are made of."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st

from spice.data.identity import identify
from spice.data.pool import FilePool, HubPool, MixPool, Pool
from spice.errors import InputError
from spice.records import Row, row_id
from spice.sandbox.data import SandboxPool

CONF = Path(__file__).parents[2] / "conf"
WriteJsonl = Callable[..., Path]


def row(instruction: str, response: str = "A", source: str = "s", **rest: Any) -> Row:
    return Row("", instruction, rest.pop("input", ""), response, source, **rest)


def load(*paths: Path, limit: Any = None, **options: Any) -> Pool:
    options.setdefault("on_bad_row", "error")
    return FilePool([str(path) for path in paths], limit, **options).load()


# -- ids -------------------------------------------------------------------------------------


def test_ids_are_the_same_on_every_machine_and_in_every_version() -> None:
    history = (("Hé?", "Yes."),)
    assert row_id("S", history, "Q", "I", "A") == row_id("S", [["Hé?", "Yes."]], "Q", "I", "A")
    assert row_id("", (), "Add 2 and 2.", "", "4") == "b6fbf6b4068fd86e"


def test_ids_know_the_content_alone(write_jsonl: WriteJsonl) -> None:
    records = [{"instruction": f"Q{i}", "response": "A", "source": "one"} for i in range(20)]
    first = load(write_jsonl(records, "first.jsonl"))
    elsewhere = [{"prompt": r["instruction"], "completion": "A"} for r in reversed(records)]
    second = load(write_jsonl(elsewhere, "second.jsonl"))
    assert [r.id for r in first.rows] == [r.id for r in reversed(second.rows)]


def test_each_part_of_the_content_counts() -> None:
    whole: dict[str, Any] = {
        "system": "S", "history": (("Q1", "A1"),), "instruction": "Q", "input": "I",
        "response": "A",
    }  # fmt: skip
    others = [{**whole, key: (("Q1", "A2"),) if key == "history" else "x"} for key in whole]
    moved = {**whole, "instruction": "QI", "input": ""}
    assert len({row_id(**content) for content in [whole, *others, moved]}) == len(whole) + 2


def test_exact_copies_are_told_apart_by_a_suffix() -> None:
    found = [r.id for r in identify([row("a"), row("b"), row("a"), row("a", source="other")])]
    a, b = found[:2]
    assert found == [a, b, f"{a}#2", f"{a}#3"]


words = st.sampled_from(["a", "b", "ab", "é", "", "#2", '"]'])


@given(st.lists(st.tuples(words, words, words)), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_distinct_ids(
    contents: list[tuple[str, str, str]], rng: random.Random
) -> None:
    rows = [row(q, a, input=i) for q, i, a in contents]
    shuffled = rng.sample(rows, len(rows))
    ids = [r.id for r in identify(rows)]
    assert len(set(ids)) == len(rows)
    assert sorted(ids) == sorted(r.id for r in identify(shuffled))


def test_the_pool_digest_knows_order_and_source() -> None:
    rows = identify([row("a"), row("b")])
    renamed = identify([row("a"), row("b", source="t")])
    digests = {Pool(r).digest() for r in (rows, rows[::-1], rows[:1], renamed)}
    assert len(digests) == 4
    assert Pool(list(rows), skipped=["x"], notes=["y"]).digest() == Pool(rows).digest()


# -- limit -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of 3,000 and 1,000 rows; their first rows are all alike."""
    folder = tmp_path_factory.mktemp("pool")
    files = []
    for name, count in (("large", 3000), ("small", 1000)):
        lines = [json.dumps({"prompt": f"{name} {i}", "completion": str(i)}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        files.append(folder / f"{name}.jsonl")
    return files


def test_a_limit_keeps_the_same_rows_whatever_the_order(thousand: list[Path]) -> None:
    some = load(*thousand, limit=400)
    assert len(some.rows) == 400
    assert {r.id for r in some.rows} == {r.id for r in load(*thousand[::-1], limit=400).rows}


def test_a_limit_is_a_uniform_sample(thousand: list[Path]) -> None:
    kept = load(*thousand, limit=800).rows
    small = Counter(r.source for r in kept)["small"]
    assert abs(small - 200) < 4 * (800 * 0.25 * 0.75 * 0.8) ** 0.5  # four standard deviations
    early = sum(int(r.response) < 1500 for r in kept if r.source == "large")
    assert abs(early - (800 - small) / 2) < 4 * (600 * 0.25) ** 0.5


def test_a_smaller_limit_is_a_part_of_a_larger_one_in_the_order_of_the_files(
    thousand: list[Path],
) -> None:
    every, more, fewer = (
        [r.id for r in load(*thousand, limit=limit).rows] for limit in (4000, 900, 90)
    )
    assert set(fewer) < set(more) < set(every)
    assert [i for i in every if i in set(more)] == more
    assert every == [r.id for r in load(*thousand, limit=10**6).rows]


@pytest.mark.parametrize("limit", [0, -1, 2.5, 0.1, "many", True])
def test_an_impossible_limit_is_refused_before_anything_is_read(limit: Any) -> None:
    parts = {"part": {"path": "no.jsonl", "rows": None}}
    said = f"^limit={str(limit).lower()}: must be a whole number"
    with pytest.raises(InputError, match=said):
        HubPool("no/such", None, "train", limit, "error")
    with pytest.raises(InputError, match=said):
        MixPool(parts, "", limit, "error")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_row": "ignore"}, "on_bad_row=ignore: must be error or skip"),
        ({"columns": {"instrution": "q"}}, "columns.instrution=q: no such field. Did you mean"),
    ],
)
def test_other_impossible_settings_are_refused(
    write_jsonl: WriteJsonl, options: dict[str, Any], message: str
) -> None:
    path = write_jsonl([{"instruction": "Q", "response": "A"}])
    with pytest.raises(InputError, match=message):
        load(path, **options)


@pytest.mark.parametrize("paths", [[], "a.jsonl"])
def test_paths_must_be_a_list(paths: Any) -> None:
    with pytest.raises(InputError, match=r"^paths=.*: must be a list of files"):
        FilePool(paths, None, "error")


# -- mixes -----------------------------------------------------------------------------------


def test_a_mix_names_its_rows_after_the_parts_and_says_where_it_falls_short(
    write_jsonl: WriteJsonl,
) -> None:
    asked = [{"question": f"1+{i}", "answer": "x"} for i in range(9)]
    shared = {"prompt": "Q", "completion": "A"}
    sums = write_jsonl([*asked, {"question": "Q", "answer": "A"}], "a.jsonl")
    talk = write_jsonl([shared, {"prompt": "only"}, {**shared, "prompt": "R"}], "b.jsonl")
    columns = {"instruction": "question", "response": "answer"}
    parts: dict[str, Any] = {
        "sums": {"name": "org/sums", "columns": columns, "rows": 10, "path": str(sums)},
        "talk": {"name": "org/talk", "columns": {}, "rows": 5, "path": [str(talk)]},
        "more": {"rows": None, "path": str(talk)},
    }
    pool = MixPool(parts, "as we assume", None, "skip").load()
    assert Counter(r.source for r in pool.rows) == {"sums": 10, "talk": 2, "more": 2}
    assert pool.notes == ["as we assume", "talk: 2 rows where the paper's mix has 5"]
    assert pool.skipped == [f"{talk}:2: {why}" for why in 2 * [pool.skipped[0].split(": ", 1)[1]]]
    copies = [r.id for r in pool.rows if r.instruction == "Q"]
    assert copies == [copies[0], f"{copies[0]}#2", f"{copies[0]}#3"]

    cut = MixPool({**parts, "sums": {**parts["sums"], "rows": 4}}, "", 6, "skip").load()
    assert len(cut.rows) == 6
    assert {r.id.split("#")[0] for r in cut.rows} <= {r.id for r in pool.rows}
    assert sum(r.source == "sums" for r in cut.rows) <= 4


def test_the_papers_mix_takes_local_files_for_its_parts(write_jsonl: WriteJsonl) -> None:
    gsm = write_jsonl([{"question": "1+1", "answer": "2"}], "gsm.jsonl")
    alpaca = write_jsonl([{"instruction": "Q", "input": "", "output": "A"}], "alpaca.jsonl")
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    chats = write_jsonl([{"conversations": turns}, {"conversations": []}], "chats.jsonl")
    files = {"gsm8k": gsm, "code_alpaca": alpaca, "alpaca": alpaca, "sharegpt": chats}
    overrides = [f"data.parts.{name}.path={path}" for name, path in files.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["data=paper_pool", *overrides]).data
    counts = {name: part.rows for name, part in config.parts.items()}
    assert sum(counts.values()) == 97_500
    pool = instantiate(config, _convert_="all").load()
    assert [(r.source, r.response) for r in pool.rows] == [
        ("gsm8k", "2"), ("code_alpaca", "A"), ("alpaca", "A"), ("sharegpt", "Ho"),
    ]  # fmt: skip
    assert "inferred from the totals" in pool.notes[0]
    assert [note.split(":")[0] for note in pool.notes[1:]] == list(counts)
    assert len(pool.skipped) == 1


def test_a_part_from_nowhere_is_refused() -> None:
    with pytest.raises(InputError, match=r"^parts.mine.name=null: needs a name on the hub"):
        MixPool({"mine": {"rows": 3}}, "", None, "error")  # type: ignore[dict-item]


# -- the hub ---------------------------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub lays it out: two configurations, one row without an answer."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "org" / "sums"
    folder.mkdir(parents=True)
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.jsonl\n"
        for name in ("small", "large")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name, count in (("small", 2), ("large", 5)):
        records = [{"question": f"1+{i}", "answer": str(i + 1)} for i in range(count)]
        records.append({"question": "?", "answer": None})
        text = "\n".join(json.dumps({**record, "messages": None}) for record in records)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def test_a_folder_in_the_hubs_layout_is_read_offline(hub_folder: Path) -> None:
    columns = {"instruction": "question", "response": "answer"}
    pool = HubPool(f"{hub_folder}/", "large", "train", 3, "skip", columns).load()
    assert len(pool.rows) == 3
    assert {r.source for r in pool.rows} == {"sums"}
    assert all(eval(r.instruction) == int(r.response) for r in pool.rows)
    assert len(pool.skipped) == 1
    assert pool.skipped[0].startswith(f"{hub_folder}/: row 6: no response")
    first = HubPool(str(hub_folder), "small", "train[:1]", None, "error", columns).load()
    assert [r.response for r in first.rows] == ["1"]


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [("huge", "train", "huge"), ("small", "test", "test"), ("small", "train[5:]", "no data")],
)
def test_what_a_data_set_lacks_is_named(
    hub_folder: Path, config: str, split: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        HubPool(str(hub_folder), config, split, None, "error").load()
    assert str(hub_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "offline",
    [
        pytest.param("1", id="offline"),
        # The hub's client tries five times, with pauses in between.
        pytest.param("0", id="refused connection", marks=pytest.mark.slow),
    ],
)
def test_an_unreachable_hub_is_one_line(tmp_path: Path, offline: str) -> None:
    program = (
        "from spice.errors import InputError\n"
        "from spice.data.pool import HubPool\n"
        "try:\n"
        "    HubPool('org/name', None, 'train', None, 'error').load()\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    nowhere = {
        "HF_ENDPOINT": "http://127.0.0.1:9",  # the discard port, where nobody listens
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(tmp_path),
        "PATH": "",
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root, env=nowhere, capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert line.startswith("data set 'org/name' cannot be loaded: ")


def test_the_sandbox_keeps_only_the_kinds_asked_for() -> None:
    whole = SandboxPool(200, 3, None, None, None).load()
    clean = SandboxPool(200, 3, None, ["clean"], None).load()
    assert clean.truth is not None
    assert whole.truth is not None
    assert {known.kind for known in clean.truth.values()} == {"clean"}
    assert [row for row in whole.rows if whole.truth[row.id].kind == "clean"] == clean.rows


@pytest.mark.parametrize("only", ["clean", ["celan"], []])
def test_a_sandbox_without_rows_is_refused(only: Any) -> None:
    with pytest.raises(InputError, match=r"^only="):
        SandboxPool(200, 3, None, only, None).load()


def test_copies_of_the_sandbox_are_exact_and_share_their_original_s_truth() -> None:
    once = SandboxPool(200, 3, None, None, None).load()
    often = SandboxPool(200, 3, None, None, {"malformed": 3}).load()
    malformed = [row for row in once.rows if once.truth[row.id].kind == "malformed"]  # type: ignore[index]
    assert len(often.rows) == 200 + 2 * len(malformed)
    for row in malformed:
        copies = [other for other in often.rows if other.id.split("#")[0] == row.id]
        assert [copy.id for copy in copies] == [row.id, f"{row.id}#2", f"{row.id}#3"]
        assert {copy.response for copy in copies} == {row.response}
        assert all(often.truth[copy.id] == once.truth[row.id] for copy in copies)  # type: ignore[index]


@pytest.mark.parametrize(
    "copies", [{"malformd": 2}, {"clean": 0}, {"clean": 1.5}, {"clean": True}, {1: 2}, 3, ["clean"]]
)
def test_copies_that_make_no_sense_are_refused(copies: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^copies(\.(malformd|clean|1)(\.\[key\])?)?="):
        SandboxPool(200, 3, None, None, copies).load()
