"""What is read from files, in which forms, and what is said of each thing that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder

from spice.data.files import read_files
from spice.data.layouts import COLUMNS, Rules, find_row
from spice.data.pool import FilePool, Pool
from spice.data.values import BadRowError
from spice.errors import InputError
from spice.progress import heard_by
from spice.records import Row

GOOD = {"instruction": "Say hi.", "input": "to Ann", "response": "Hi, Ann!", "source": "talk"}


def load(*paths: Path | str, **options: Any) -> Pool:
    settings: dict[str, Any] = {"limit": None, "on_bad_row": "error"} | options
    return FilePool([str(path) for path in paths], **settings).load()


def refusal(*paths: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(*paths, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def texts(row: Row) -> tuple[Any, ...]:
    return row.system, row.history, row.instruction, row.input, row.response


# -- files -----------------------------------------------------------------------------------


def as_jsonl(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def as_list(records: list[Any]) -> bytes:
    return json.dumps(records, indent=1).encode()


def as_parquet(records: list[Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), sink)
    return sink.getvalue().to_pybytes()


def as_cells(records: list[Any], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def as_feather(records: list[Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.feather.write_feather(pyarrow.Table.from_pylist(records), sink)
    return sink.getvalue().to_pybytes()


def as_stream(records: list[Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist(records)
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[list[Any]], bytes]] = {
    "pool.jsonl": as_jsonl,
    "pool.ndjson": as_jsonl,
    "pool.json": as_list,
    "lines.json": as_jsonl,
    "pool.csv": lambda records: as_cells(records, ","),
    "pool.tsv": lambda records: as_cells(records, "\t"),
    "pool.parquet": as_parquet,
    "pool.feather": as_feather,
    "pool.arrow": as_stream,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("packing", PACKERS, ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("count", [1, 25])
def test_all_formats_hold_the_same_rows(
    tmp_path: Path, name: str, packing: str, count: int
) -> None:
    records = [{**GOOD, "instruction": f'Say "hi",\n{i}\ttimes.'} for i in range(count)]
    path = tmp_path / f"{name}{packing}"
    path.write_bytes(PACKERS[packing](WRITERS[name](records)))
    expected = [Row(id="", **record) for record in records]
    assert [find_row(r, "else").row for _, _, r in read_files([path])] == expected
    assert [texts(row) for row in load(path).rows] == [texts(row) for row in expected]


@pytest.mark.parametrize("packing", PACKERS, ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("name", WRITERS)
def test_how_far_reading_is_is_known_by_bytes_on_disk(
    tmp_path: Path, name: str, packing: str
) -> None:
    files = [tmp_path / f"{part}-{name}{packing}" for part in "ab"]
    for path, count in zip(files, (30, 5), strict=True):
        path.write_bytes(PACKERS[packing](WRITERS[name]([GOOD] * count)))
    sizes, ear = [path.stat().st_size for path in files], Recorder()
    with heard_by(ear):
        heard = [ear.all[0].at for _ in read_files(files)]
    assert [done for done, _ in heard] == [*range(1, 36)]
    spent = [bytes for _, bytes in heard]
    assert spent == sorted(spent)
    assert (spent[29], spent[-1]) == (pytest.approx(sizes[0]), pytest.approx(sum(sizes)))
    [going] = ear.all
    assert (going.work, going.total, ear.open) == (sum(sizes), None, [])


def test_json_lines_may_lack_the_last_line_end(tmp_path: Path) -> None:
    for name in ("pool.jsonl", "pool.json"):
        (tmp_path / name).write_bytes(as_jsonl([GOOD, {**GOOD, "input": ""}]).rstrip())
        assert len(load(tmp_path / name).rows) == 2


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.json", "lines.json"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path, name: str) -> None:
    content = WRITERS[name]([GOOD, GOOD]).replace(b"\n", b"\r\n")
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert [texts(row) for row in load(tmp_path / name).rows] == 2 * [texts(Row(id="", **GOOD))]


def test_blank_lines_are_no_rows_but_count_as_lines(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl(["", GOOD, "  \t", GOOD, "", "oops"])
    assert len(load(path, on_bad_row="skip").rows) == 2
    assert f"{path}:6:" in refusal(path)


def test_unusual_line_separators_inside_a_text_do_not_end_the_row(tmp_path: Path) -> None:
    record = {**GOOD, "response": "one\u2028two\u0085three\x0cfour"}
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert load(path).rows[0].response == record["response"]


def test_several_files_and_patterns_are_read_in_the_order_given(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("b.jsonl", "a.jsonl", "c[1].jsonl"):
        write_jsonl([{**GOOD, "response": name}], name)
    rows = load(tmp_path / "c[1].jsonl", tmp_path / "[ab].jsonl").rows
    assert [row.response for row in rows] == ["c[1].jsonl", "a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("name", "source"),
    [("llama3.1_chats.jsonl", "llama3.1_chats"), ("llama3.2_chats.jsonl.gz", "llama3.2_chats")],
)
def test_a_row_without_a_source_is_named_after_its_file(
    tmp_path: Path, name: str, source: str
) -> None:
    content = as_jsonl([{"instruction": "a", "response": "b"}])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert load(tmp_path / name).rows[0].source == source
    assert FilePool([str(tmp_path / name)], None, "error", source="mine").load().rows[0].source == (
        "mine"
    )


# -- forms -----------------------------------------------------------------------------------

USER, ASSISTANT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
SYSTEM = {"role": "system", "content": "S"}
PARTS = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]

FORMS = {
    "plain": (GOOD, ("", (), "Say hi.", "to Ann", "Hi, Ann!")),
    "no input": ({"instruction": "Q", "response": "A"}, ("", (), "Q", "", "A")),
    "nulls": (
        {"instruction": "Q", "input": None, "response": "A", "history": None, "messages": None},
        ("", (), "Q", "", "A"),
    ),
    "only an input": ({"instruction": "", "input": "Q", "output": "A"}, ("", (), "Q", "", "A")),
    "alpaca": ({"instruction": "Q", "input": "I", "output": "A"}, ("", (), "Q", "I", "A")),
    "history": (
        {"instruction": "Q2", "response": "A2", "history": [["Q1", "A1"]], "system": "S"},
        ("S", (("Q1", "A1"),), "Q2", "", "A2"),
    ),
    "prompt": ({"prompt": "Q", "completion": "A"}, ("", (), "Q", "", "A")),
    "prompt and response": (
        {"prompt": "Q", "response": "A", "system": "S", "input": "I"},
        ("S", (), "Q", "I", "A"),
    ),
    "prompt of messages": (
        {"prompt": [SYSTEM, USER, ASSISTANT, USER], "completion": [ASSISTANT]},
        ("S", (("Q", "A"),), "Q", "", "A"),
    ),
    "messages": ({"messages": [USER, ASSISTANT]}, ("", (), "Q", "", "A")),
    "messages with system": (
        {"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]},
        ("S", (("Q", "A"),), "Q", "", "A"),
    ),
    "developer": (
        {"messages": [{**SYSTEM, "role": "developer"}, USER, ASSISTANT]},
        ("S", (), "Q", "", "A"),
    ),
    "typed parts": (
        {"messages": [{"role": "user", "content": PARTS}, ASSISTANT]},
        ("", (), "one two", "", "A"),
    ),
    "sharegpt": (
        {"id": "x", "conversations": [{"from": "human", "value": "Q"},
                                      {"from": "gpt", "value": "A"}]},
        ("", (), "Q", "", "A"),
    ),
    "sharegpt from the middle": (
        {"conversations": [{"from": "gpt", "value": "lost"}, {"from": "human", "value": "Q"},
                           {"from": "chatgpt", "value": "A"}]},
        ("", (), "Q", "", "A"),
    ),
    "sharegpt with a system column": (
        {"system": "S", "conversations": [{"from": "human", "value": "Q"},
                                          {"from": "bot", "value": "A"}]},
        ("S", (), "Q", "", "A"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_record_is_understood(form: str) -> None:
    record, expected = FORMS[form]
    assert texts(find_row(record, "s").row) == expected


def test_columns_are_renamed_and_go_before_their_namesakes() -> None:
    columns = {"instruction": "question", "response": "answer", "source": "category"}
    record = {"question": "Q", "answer": "A", "instruction": "no", "category": "math"}
    assert find_row(record, "s", Rules(columns)).row == Row("", "Q", "", "A", "math")
    assert find_row(dict(reversed(record.items())), "s", Rules(columns)).row == Row(
        "", "Q", "", "A", "math"
    )


def test_columns_can_be_swapped() -> None:
    swapped = find_row(GOOD, "s", Rules({"instruction": "input", "input": "instruction"})).row
    assert (swapped.instruction, swapped.input) == ("to Ann", "Say hi.")


def test_a_row_survives_the_way_through_our_own_file(tmp_path: Path) -> None:
    row = Row("", "Q – ü", "I", " A\n", "s", history=(("Q1", "A1"),), system="S")
    path = tmp_path / "selected.jsonl"
    path.write_text(json.dumps(row.as_dict(), ensure_ascii=False), encoding="utf-8")
    (found,) = load(path).rows
    assert (*texts(found), found.source) == (*texts(row), "s")


# -- what is wrong ---------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "not an object": ([1], "must be an object with named fields, not a list"),
    "no instruction": ({"response": "A"}, "no instruction: expected 'instruction'"),
    "nothing": ({}, "found nothing"),
    "no response": (
        {"instruction": "Q", "reply": "A"},
        "no response: expected 'response' or 'output' or 'completion' or 'answer', found 'instr",
    ),
    "null response": ({"instruction": "Q", "response": None}, "no response"),
    "no completion": ({"prompt": "Q", "chosen": "A"}, "no response"),
    "empty response": ({"instruction": "Q", "response": " \n"}, "the response is empty"),
    "empty completion": ({"prompt": "Q", "completion": ""}, "the response is empty"),
    "empty instruction": ({"instruction": " ", "response": "A"}, "the instruction is empty"),
    "number": ({"instruction": "Q", "response": 4}, "'response' must be text, not a number"),
    "nan": ({"instruction": "Q", "output": float("nan")}, "no response: expected 'response'"),
    "boolean": ({"instruction": True, "response": "A"}, "'instruction' must be text, not a bool"),
    "input": ({**GOOD, "input": 0}, "'input' must be text, not a number"),
    "source": ({**GOOD, "source": ["talk"]}, "'source' must be text, not a list"),
    "system": ({**GOOD, "system": {}}, "'system' must be text, not an object"),
    "history": ({**GOOD, "history": [["only a question"]]}, "'history' must be a list of [user,"),
    "history text": ({**GOOD, "history": "Q: A"}, "'history' must be a list of [user, assistant]"),
    "history turn": ({**GOOD, "history": [["Q", 1]]}, "'history' must be text, not a number"),
    "prompt list": ({"prompt": [USER], "completion": "A"}, "'prompt' must be text, not a list"),
    "no turns": ({"messages": []}, "'messages' must be a list of turns"),
    "messages text": ({"messages": "Q"}, "'messages' must be a list of turns"),
    "turn": ({"messages": ["Q"]}, "a turn of 'messages' must be an object, not text"),
    "unanswered": ({"messages": [USER]}, "no response: the last turn of 'messages' must be"),
    "only answers": ({"messages": [ASSISTANT]}, "no response"),
    "two questions": ({"messages": [USER, USER, ASSISTANT]}, "must alternate"),
    "two answers": ({"messages": [USER, ASSISTANT, ASSISTANT]}, "must alternate"),
    "role": (
        {"messages": [{"role": "tool", "content": "x"}]},
        "has the role 'tool': tool calls cannot",
    ),
    "no role": ({"messages": [{"content": "x"}]}, "unknown role None"),
    "odd role": ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown role ['user']"),
    "no content": ({"messages": [{"role": "user"}]}, "'content' must be text, not null"),
    "picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "something other than text",
    ),
    "untexted part": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "'text' must be text, not a number",
    ),
    "half a character": ({**GOOD, "response": "\ud83d"}, "'response' holds half a character"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_bad_record_is_named_with_its_file_line_and_key(
    write_jsonl: Callable[..., Path], fault: str
) -> None:
    record, message = WRONG[fault]
    path = write_jsonl([*[GOOD] * 16, record, GOOD])
    assert refusal(path).startswith(f"{path}:17: ")
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"instruction": "Q", "response": "A"', "not valid JSON: Expecting ',' delimiter"),
        (b'{"instruction": "caf\xe9", "response": "A"}', "not UTF-8 (byte 20)"),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
        (b'{"instruction": ' + b"9" * 5000 + b"}", "not valid JSON: a number with too many"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"null", "must be an object with named fields, not null"),
    ],
    ids=["cut", "latin-1", "deep", "long", "utf-16", "null"],
)
@pytest.mark.parametrize("name", ["pool.jsonl", "lines.json", "pool.jsonl.gz"])
def test_a_broken_line_is_named(tmp_path: Path, name: str, line: bytes, message: str) -> None:
    path = tmp_path / name
    content = as_jsonl([GOOD] * 16) + line + b"\n" + as_jsonl([GOOD])
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert refusal(path).startswith(f"{path}:17: ")
    assert message in refusal(path)
    skipping = load(path, on_bad_row="skip")
    assert len(skipping.rows) == 17
    assert len(skipping.skipped) == 1
    assert skipping.skipped[0].startswith(f"{path}:17: ")


def test_a_bad_record_of_a_list_and_of_a_table_is_named_by_its_number(tmp_path: Path) -> None:
    records = [GOOD, {**GOOD, "response": ""}]
    (tmp_path / "pool.json").write_bytes(as_list(records))
    (tmp_path / "pool.parquet").write_bytes(as_parquet(records))
    assert refusal(tmp_path / "pool.json").startswith(f"{tmp_path}/pool.json: record 2: the resp")
    assert refusal(tmp_path / "pool.parquet").startswith(f"{tmp_path}/pool.parquet: row 2: the re")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pool.txt", b"a,b", "unknown format '.txt'; known are .jsonl"),
        ("pool.csv", b"a,b\n", "the pool is empty: no rows in "),
        ("pool.csv", b"a,a\n1,2\n", "two columns are named 'a'"),
        ("pool.csv", b'a,b\n1,"2\n', "not a valid table: unexpected end of data"),
        ("pool.csv", b"a,b\n\xe9,2\n", "not UTF-8"),
        ("pool.arrow", b"not one", "not an Arrow file"),
        ("pool.feather", b"ARROW1 but no more", "not an Arrow file"),
        ("pool.jsonl.zst", b"not one", "cannot be read: ZSTD"),
        ("pool", b"{}", "unknown format ''"),
        ("pool.json", b'[{"a": 1},\n{"b"}]', "not valid JSON: Expecting ':' delimiter (line 2, co"),
        ("pool.json", b'"text"', "must hold a list of records, not text"),
        ("pool.json", b"", "not valid JSON: Expecting value"),
        ("pool.parquet", b"not one", "not a Parquet file"),
        ("pool.parquet", as_parquet([GOOD])[:-9], "not a Parquet file"),
        ("pool.jsonl.gz", as_jsonl([GOOD]), "cannot be read: Not a gzipped file"),
        ("pool.jsonl.gz", gzip.compress(as_jsonl([GOOD]))[:-12], "cannot be read: Compressed fi"),
        ("pool.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 40, "cannot be read: Error -3"),
        ("pool.jsonl", b"", "the pool is empty: no rows in "),
        ("pool.jsonl", b"\n \n", "the pool is empty: no rows in "),
        ("pool.json", b"[]", "the pool is empty: no rows in "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip writes the time into bytes
)
@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_file_of_no_use_is_named_whether_bad_rows_are_skipped_or_not(
    tmp_path: Path, name: str, content: bytes, message: str, on_bad_row: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = refusal(path, on_bad_row=on_bad_row)
    assert str(path) in said
    assert message in said


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.jsonl") == f"data.paths: no such file: {tmp_path}/no.jsonl"
    assert "no such file" in refusal(tmp_path / "*.jsonl")
    assert "is a folder" in refusal(tmp_path)


def test_skipped_rows_are_counted_and_listed(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl([GOOD, "{", GOOD, {"instruction": "Q"}, GOOD])
    pool = load(path, on_bad_row="skip")
    assert len(pool.rows) == 3
    assert [entry.rpartition(f"{path}:")[2].partition(":")[0] for entry in pool.skipped] == [
        "2",
        "4",
    ]
    assert "no response" in pool.skipped[1]


def test_a_pool_of_bad_rows_alone_is_empty(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl([{"instruction": "Q"}] * 3)
    said = refusal(path, on_bad_row="skip")
    assert "the pool is empty" in said
    assert "the first of 3" in said
    assert f"{path}:1: no response" in said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = [*(column for columns in COLUMNS.values() for column in columns), "tools", "tool_calls"]
TURN_KEYS = ["role", "from", "content", "value", "weight", "thinking"]
turn_values = st.sampled_from(["user", "assistant", "system", "gpt"]) | json_values
turns = st.dictionaries(st.sampled_from(TURN_KEYS), turn_values)
field_values = json_values | st.lists(turns, max_size=4)


@given(st.dictionaries(st.sampled_from(KEYS), field_values) | json_values)
def test_whatever_json_holds_is_a_row_of_text_or_a_reason(record: Any) -> None:
    try:
        row = find_row(record, "s").row
    except BadRowError as error:
        assert str(error)  # noqa: PT017 (either outcome is fine)
    else:
        assert row.response.strip()
        assert row.prompt.strip()
        assert all(isinstance(m["content"], str) for m in row.messages())
        assert not row.taught or (any(row.taught) and len(row.taught) == len(row.history) + 1)
