"""Rows on disk are the rows that were read, and are read once."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.data import kept_rows, row_table
from spice.data.identity import identify, limited
from spice.data.pool import Data, FilePool, HubPool, MixPool, Pool
from spice.data.row_table import RowTable, ids_of, sources_of, write_rows
from spice.errors import InputError
from spice.records import Row
from spice.sandbox.data import SandboxPool
from spice.storage.stages import Stages

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
turns = st.lists(st.tuples(text, text), max_size=2).map(tuple)
rows = st.builds(
    Row, text, text, text, text, text, turns, text, st.lists(st.booleans(), max_size=3).map(tuple)
)


@settings(max_examples=60)
@given(st.lists(rows, max_size=9), st.slices(9), st.integers(1, 4))
def test_a_table_holds_the_rows_that_were_put_in(
    tmp_path_factory: pytest.TempPathFactory, whole: list[Row], which: slice, part: int
) -> None:
    path = tmp_path_factory.mktemp("table") / "rows.arrow"
    with patch.object(row_table, "PART", part):
        assert write_rows(path, iter(whole)) == len(whole)
        table = RowTable(path)
        assert list(table) == list(pickle.loads(pickle.dumps(table))) == whole
        assert [table[i] for i in range(-len(whole), len(whole))] == whole + whole
        assert table[which] == whole[which]
        assert (ids_of(table), sources_of(table)) == (ids_of(whole), sources_of(whole))
        assert Pool(table).digest() == Pool(whole).digest()
        with pytest.raises(IndexError):
            table[len(whole)]


@given(st.lists(text, max_size=12), st.integers(1, 14))
def test_a_limit_keeps_the_smallest_ids_in_their_order(texts: list[str], limit: int) -> None:
    whole = identify(Row("", each, "", "A", "s") for each in texts)
    smallest = set(sorted(row.id for row in whole)[:limit])
    assert list(limited(iter(whole), limit)) == [row for row in whole if row.id in smallest]


# -- pools that are kept ---------------------------------------------------------------------

RECORDS: list[Any] = [
    {"instruction": "Q", "response": "A", "weight": 2, "note": "two words"},
    {"instruction": "Q", "response": "A"},
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "é"},
                  {"role": "assistant", "content": "one", "weight": 0},
                  {"role": "user", "content": "and?"}, {"role": "assistant", "content": "two"}]},
    {"instruction": "no answer"},
    {"instruction": "R", "response": "B", "source": "other"},
]  # fmt: skip


class Kept:
    """A cache that counts what is made."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, 0
        self.stages = Stages(root, lambda stage, told: None)

    def read(self, data: Data) -> Pool:
        return kept_rows.read(data, self._keep, self.root)

    def _keep(self, key: dict[str, Any], build: Callable[[Path], None]) -> Path:
        def counted(folder: Path) -> None:
            self.made += 1
            build(folder)

        return self.stages.run("rows", key, counted).folder


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "cache")


def pool_of(*paths: Path, limit: int | None = None, on_bad_row: Any = "skip") -> FilePool:
    return FilePool([str(path) for path in paths], limit, on_bad_row)


def same(kept: Pool, loaded: Pool) -> bool:
    told = (loaded.report(), loaded.notes, loaded.digest())
    return (
        list(kept.rows) == list(loaded.rows) and (kept.report(), kept.notes, kept.digest()) == told
    )


@pytest.mark.parametrize("limit", [None, 2, 99])
def test_a_kept_pool_is_the_one_that_memory_would_hold_and_is_read_once(
    write_jsonl: Callable[..., Path], kept: Kept, limit: int | None
) -> None:
    path = write_jsonl(RECORDS)
    data = pool_of(path, path, limit=limit)  # named twice, which is remarked upon
    for _ in range(2):
        assert same(kept.read(data), data.load())
    assert kept.made == 1


def test_a_mix_of_files_is_kept_with_what_is_said_of_its_parts(
    write_jsonl: Callable[..., Path], kept: Kept
) -> None:
    path = str(write_jsonl(RECORDS))
    parts: dict[str, Any] = {"a": {"path": path, "rows": 9}, "b": {"path": [path], "rows": 2}}
    data = MixPool(parts, "as we assume", 4, "skip")
    for _ in range(2):
        assert same(kept.read(data), data.load())
    assert kept.made == 1
    assert kept.read(MixPool({**parts, "c": parts["a"]}, "as we assume", 4, "skip"))
    assert kept.made == 2


def test_a_data_set_that_is_known_only_once_it_is_read_is_kept_by_what_it_holds(
    tmp_path: Path, kept: Kept
) -> None:
    folder = tmp_path / "sums"
    folder.mkdir()

    def write(count: int) -> None:
        records = [{"instruction": f"1+{i}", "response": str(i + 1)} for i in range(count)]
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, records)))

    write(2)
    data = HubPool(str(folder), None, "train", None, "error")
    assert data.contents() is None
    for _ in range(2):
        pool = kept.read(data)
        assert isinstance(pool.rows, row_table.RowTable)
        assert same(pool, data.load())
    assert kept.made == 1
    write(1)
    assert len(kept.read(data).rows) == 1
    assert kept.made == 2
    with pytest.raises(InputError, match="cannot be loaded"):
        kept.read(HubPool(str(kept.root / "nothing"), None, "train", None, "error"))
    assert [path.name for path in kept.root.iterdir()] == ["rows"]


def test_another_content_or_setting_is_another_pool(
    write_jsonl: Callable[..., Path], kept: Kept
) -> None:
    path = write_jsonl(RECORDS)
    first = kept.read(pool_of(path))
    assert len(kept.read(pool_of(path, limit=1)).rows) == 1
    write_jsonl([*RECORDS, {"instruction": "new", "response": "N"}])
    assert len(kept.read(pool_of(path)).rows) == len(first.rows) + 1
    assert kept.made == 3


def test_a_pool_that_is_refused_names_the_row_and_leaves_nothing(
    write_jsonl: Callable[..., Path], kept: Kept
) -> None:
    path = write_jsonl(RECORDS)
    data = pool_of(path, on_bad_row="error")
    with pytest.raises(InputError) as loaded:
        data.load()
    with pytest.raises(InputError) as refused:
        kept.read(data)
    assert str(refused.value) == str(loaded.value)
    assert f"{path}:4: " in str(refused.value)
    assert not [entry for entry in kept.stages.root.rglob("*") if entry.suffix != ".lock"
                and entry.name != "rows"]  # fmt: skip


def test_a_text_that_is_no_unicode_is_refused_or_read_as_in_memory(
    write_jsonl: Callable[..., Path], kept: Kept
) -> None:
    data = pool_of(write_jsonl(['{"instruction": "\\ud800", "response": "A"}', RECORDS[0]]))
    assert same(kept.read(data), data.load())


def test_a_file_that_changes_while_it_is_read_is_refused(
    write_jsonl: Callable[..., Path], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = write_jsonl(RECORDS), kept_rows.write_rows

    def meanwhile(to: Path, rows: Any) -> int:
        count = write(to, rows)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(RECORDS[0]) + "\n")
        return count

    monkeypatch.setattr(kept_rows, "write_rows", meanwhile)
    with pytest.raises(InputError, match="was changed while it was read"):
        kept.read(pool_of(path))


def test_what_was_left_by_a_kill_is_written_anew(
    write_jsonl: Callable[..., Path], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, write = pool_of(write_jsonl(RECORDS)), kept_rows.write_rows

    def killed(to: Path, rows: Any) -> int:
        write(to, rows)
        to.write_bytes(to.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_rows, "write_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.read(data)
    monkeypatch.setattr(kept_rows, "write_rows", write)
    assert same(kept.read(data), data.load())
    assert kept.made == 2


def test_a_flipped_byte_is_found_and_the_pool_read_again(
    write_jsonl: Callable[..., Path], kept: Kept
) -> None:
    data = pool_of(write_jsonl(RECORDS))
    kept.read(data)
    (path,) = kept.stages.root.rglob(kept_rows.ROWS)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert same(kept.read(data), data.load())
    assert kept.made == 2


def test_the_sandbox_stays_in_memory(kept: Kept) -> None:
    data = SandboxPool(30, 0, None, None, None)
    assert kept.read(data).truth == data.load().truth
    assert kept.made == 0
