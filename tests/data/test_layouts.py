"""Known layouts lose nothing: each value is in the row, or is told of with its way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.data.layouts import COLUMNS, Rules, find_row
from spice.data.pool import FilePool, HubPool, MixPool, Pool
from spice.data.unread import Unread, labels_told, told
from spice.data.values import BadRowError
from spice.errors import InputError
from spice.records import Row

WriteJsonl = Callable[..., Path]
ASK, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


def load(*paths: Path | str, **options: Any) -> Pool:
    options.setdefault("on_bad_row", "error")
    return FilePool([str(path) for path in paths], None, **options).load()


def refusal(*paths: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(*paths, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- layouts ---------------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[dict[str, Any], tuple[str, str, str, str]]] = {
    "alpaca": ({"instruction": "Q", "input": "I", "output": "A"}, ("", "Q", "I", "A")),
    "dolly": ({"instruction": "Q", "context": "I", "response": "A"}, ("", "Q", "I", "A")),
    "openorca": ({"system_prompt": "S", "question": "Q", "response": "A"}, ("S", "Q", "", "A")),
    "gsm8k": ({"question": "Q", "answer": "A"}, ("", "Q", "", "A")),
    "prompt": ({"prompt": "Q", "completion": "A"}, ("", "Q", "", "A")),
    "prompt and input": ({"prompt": "Q", "input": "I", "completion": "A"}, ("", "Q", "I", "A")),
    "query": ({"query": "Q", "response": "A"}, ("", "Q", "", "A")),
    "input and output": ({"input": "Q", "output": "A"}, ("", "Q", "", "A")),
    "input, context, output": ({"input": "Q", "context": "I", "output": "A"}, ("", "Q", "I", "A")),
    "ultrachat": ({"data": ["Q", "A"]}, ("", "Q", "", "A")),
    "ultrachat 200k": ({"prompt": "Q", "messages": [ASK, ANSWER]}, ("", "Q", "", "A")),
    "turns as text": ({"messages": json.dumps([ASK, ANSWER])}, ("", "Q", "", "A")),
}


def four(row: Row) -> tuple[str, str, str, str]:
    return row.system, row.instruction, row.input, row.response


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("null", [None, float("nan"), "", " "], ids=["null", "nan", "''", "' '"])
def test_each_layout_is_read_whole_whatever_stands_for_no_value(layout: str, null: Any) -> None:
    record, expected = LAYOUTS[layout]
    nulls = {column: null for columns in COLUMNS.values() for column in columns}
    for given_record in (record, {**nulls, **record}):
        found = find_row(given_record, "s")
        assert tuple(text.strip() for text in four(found.row)) == expected
        assert found.unread == {}
        assert found.row.source == "s"


def test_a_text_that_says_null_is_text() -> None:
    assert four(find_row({"prompt": "null", "input": "NaN", "completion": "None"}, "s").row) == (
        "", "null", "NaN", "None",
    )  # fmt: skip


columns = st.sampled_from([c for names in COLUMNS.values() for c in names] + ["id", "note"])
values = st.sampled_from(["one text", "and another", "a third"]) | st.none() | st.just("")


@given(st.dictionaries(columns, values, min_size=2))
def test_no_text_of_a_record_is_lost_in_silence(record: dict[str, Any]) -> None:
    try:
        found = find_row(record, "s")
    except BadRowError:
        return
    row = found.row
    arrived = {row.system, row.instruction, row.input, row.response, row.source}
    told_of = set(found.unread.values())
    assert {value for value in record.values() if value} <= arrived | told_of


def test_prompts_of_turns_are_not_learnt() -> None:
    record = {"prompt": [ASK, ANSWER, ASK], "completion": [{**ANSWER, "content": "B"}]}
    row = find_row(record, "s").row
    assert (row.history, row.response, row.taught) == ((("Q", "A"),), "B", (False, True))


# -- what nobody reads -----------------------------------------------------------------------


def test_what_nobody_reads_is_counted_by_source_with_the_way_out(write_jsonl: WriteJsonl) -> None:
    poems = [
        {"instruction": f"Write {i}", "passage": "Some lines here", "response": "A", "id": i}
        for i in range(3)
    ]
    thoughts = [{"messages": [ASK, {**ANSWER, "thinking": "I think so", "name": "Ann Lee"}]}]
    pool = load(write_jsonl(poems, "poems.jsonl"), write_jsonl(thoughts, "thoughts.jsonl"))
    remedy = "data.columns={input: passage} reads it as the input"
    told_of = {(u.source, u.column, u.rows, u.label) for u in pool.unread}
    assert told_of == {
        ("poems", "passage", 3, False),
        ("poems", "id", 3, True),
        ("thoughts", "messages[].thinking", 1, False),
        ("thoughts", "messages[].name", 1, True),
    }
    lines = list(told(pool.unread))
    assert lines[0] == f"poems: not read: 'passage' in 3 rows ({remedy})"
    assert lines[1].startswith("thoughts: not read: 'messages[].thinking' in 1 row (write it into")
    assert labels_told(pool.unread) == (
        "labels that are not read: 'id' in 3 rows, 'messages[].name' in 1 row"
    )
    assert pool.report()["unread"][0] == {
        "source": "poems", "column": "passage", "rows": 3, "label": False, "remedy": remedy,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [
        ("category", "closed qa", True), ("score", 0.5, True), ("split", "train", True),
        ("text", "Below is a task. Q Answer: A", True), ("weight", 0.5, False),
        ("choices", ["B", "C"], False), ("hint", "look it up", False), ("thinking", "Yes", False),
    ],
)  # fmt: skip
def test_labels_are_told_from_what_is_lost(
    write_jsonl: WriteJsonl, column: str, value: Any, label: bool
) -> None:
    (found,) = load(write_jsonl([{"prompt": "Q", "completion": "A", column: value}])).unread
    assert (found.column, found.label, found.remedy is None) == (column, label, label)


def test_the_way_out_names_a_field_that_is_free(write_jsonl: WriteJsonl) -> None:
    record = {"instruction": "Q", "input": "I", "output": "A", "note": "be kind"}
    talk = {"messages": [ASK, ANSWER], "note": "be kind"}
    for given_record in (record, talk):
        (found,) = load(write_jsonl([given_record])).unread
        assert str(found.remedy).startswith("data.columns={system: note}")


def test_a_pool_of_known_columns_has_nothing_to_tell(write_jsonl: WriteJsonl) -> None:
    rows = [{"instruction": "Q", "input": "", "response": "A", "source": "s"}] * 3
    pool = load(write_jsonl(rows))
    assert (pool.unread, pool.changed, pool.notes, labels_told(pool.unread)) == ([], {}, [], None)


def test_many_sources_do_not_fill_the_screen() -> None:
    unread = [Unread(f"s{i:02}", "passage", 1, False, "so") for i in range(50)]
    lines = list(told(unread))
    assert len(lines) == 11
    assert lines[-1] == "40 more sources hold what is not read: audit.json lists all"


# -- turns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn",
    [
        {**ANSWER, "tool_calls": [{"function": {"name": "tide"}}]},
        {"role": "assistant", "content": None, "function_call": {"name": "tide"}},
        {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "15"},
    ],
)
def test_tool_calls_are_refused_by_file_and_line(
    write_jsonl: WriteJsonl, turn: dict[str, Any]
) -> None:
    path = write_jsonl([{"messages": [ASK, ANSWER]}, {"messages": [ASK, turn, ANSWER]}])
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert "tool calls cannot be rendered" in message


def weighed(*weights: Any) -> dict[str, Any]:
    answers = [{**ANSWER, "weight": weight} for weight in weights]
    return {"messages": [turn for answer in answers for turn in (ASK, answer)]}


@pytest.mark.parametrize(
    ("weights", "taught"),
    [
        ((1, 1), ()),
        ((None, float("nan")), ()),
        ((0, 1), (False, True)),
        ((1.0, 0.0), (True, False)),
    ],
)
def test_weights_of_answers_say_what_is_learnt(
    weights: tuple[Any, ...], taught: tuple[bool, ...], tmp_path: Path
) -> None:
    row = find_row(weighed(*weights), "s").row
    assert row.taught == taught
    path = tmp_path / "selected.jsonl"
    path.write_text(json.dumps(row.as_dict()), encoding="utf-8")
    assert load(path).rows[0].taught == taught


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (weighed(0.5, 1), "has weight 0.5: it must be 0 or 1"),
        (weighed(True), "has weight True: it must be 0 or 1"),
        (weighed(0, 0), "no answer of 'messages' is to be learnt: each has weight 0"),
        ({"prompt": "Q", "completion": "A", "taught": [1]}, "'taught' must be a list of true"),
        ({"prompt": "Q", "completion": "A", "taught": [False]}, "no answer is to be learnt"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "data.columns={response: chosen} reads"),
        ({"data": [{"prompt": "Q", "completion": "A"}]}, "'data' holds a list: give that alone"),
        ({"instruction": ["Q"], "output": ["A"]}, "has to be written as one object per row"),
        ({"messages": [{"role": "User", "content": "Q"}, ANSWER]}, "data.roles={User: user}"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_way_out(record: Any, message: str) -> None:
    with pytest.raises(BadRowError) as caught:
        find_row(record, "s")
    assert message in str(caught.value)


def test_a_users_weight_is_told_of_unless_it_is_0() -> None:
    for weight, unread in ((0, []), (1, ["messages[].weight of turns that are no answers"])):
        turns = [{**ASK, "weight": weight}, ANSWER]
        assert list(find_row({"messages": turns}, "s").unread) == unread


def test_answers_before_the_first_question_are_told_of() -> None:
    found = find_row({"conversations": [ANSWER, ASK, ANSWER]}, "s")
    assert list(found.unread) == ["conversations[] before the first user's"]


MENDED = {
    "cut": ([ASK, ANSWER, ASK], ((), "Q", "A"), ["trailing user turns cut"]),
    "users": ([ASK, ASK, ANSWER], ((), "Q\n\nQ", "A"), ["successive turns joined"]),
    "answers": ([ASK, ANSWER, ANSWER], ((), "Q", "A\n\nA"), ["successive turns joined"]),
    "nothing": ([ASK, ANSWER, ASK, ANSWER], ((("Q", "A"),), "Q", "A"), []),
}  # fmt: skip


@pytest.mark.parametrize("case", MENDED)
def test_turns_are_mended_on_demand_and_counted(write_jsonl: WriteJsonl, case: str) -> None:
    turns, expected, changed = MENDED[case]
    path = write_jsonl([{"messages": turns}])
    pool = load(path, mend=True)
    (row,) = pool.rows
    assert (row.history, row.instruction, row.response) == expected
    assert pool.changed == dict.fromkeys(changed, 1)
    if changed:
        assert "data.mend=true" in refusal(path)


def test_answers_of_different_weight_are_not_joined() -> None:
    turns = [ASK, {**ANSWER, "weight": 0}, ANSWER]
    with pytest.raises(BadRowError, match="different weight"):
        find_row({"messages": turns}, "s", Rules(mend=True))


# -- names that the configuration gives ------------------------------------------------------


def test_roles_are_mapped_and_wrong_names_are_told(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl([{"messages": [ASK, {"role": "model", "content": "A"}]}])
    assert load(path, roles={"model": "assistant"}).rows[0].response == "A"
    assert "unknown role 'model' in 'messages'. Did you mean 'modell'" in (
        refusal(path, roles={"modell": "assistant"})
    )
    both = {"model": "assistant", "usr": "user"}
    assert "data.roles.usr: no turn has such a role. Did you mean 'user'?" in (
        refusal(path, roles=both)
    )
    assert "roles.model=asistant: must be one of system, user, assistant. Did you" in (
        refusal(path, roles={"model": "asistant"})
    )


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
@pytest.mark.parametrize("ours", ["instruction", "input"])
def test_a_column_that_no_row_has_is_told(
    write_jsonl: WriteJsonl, ours: str, on_bad_row: str
) -> None:
    path = write_jsonl([{"ask": "Q", "passage": "P P", "answer": "A"}] * 2)
    asked = {"instruction": "ask", "input": "passage"}
    wrong = {**asked, ours: f"{asked[ours][:-1]}x"}
    message = refusal(path, columns=wrong, on_bad_row=on_bad_row)
    assert f"data.columns.{ours}={wrong[ours]}" in message
    assert f"Did you mean '{asked[ours]}'?" in message
    assert load(path, columns=asked).rows[0].input == "P P"


@pytest.mark.parametrize("value", ["question", ["question"], {"instruction": 1}])
def test_columns_must_be_names_by_names(write_jsonl: WriteJsonl, value: Any) -> None:
    assert refusal(write_jsonl([LAYOUTS["dolly"][0]]), columns=value).startswith("columns")


def test_a_part_of_a_mix_says_where_its_own_names_are_wrong(write_jsonl: WriteJsonl) -> None:
    path = str(write_jsonl([{"ask": "Q", "answer": "A"}]))
    for part, message in (
        ({"path": path, "columns": {"instruction": "aks"}}, r"data\.parts\.mine\.columns\.instr"),
        ({"paht": path}, r"parts\.mine\.paht: no such key\. Did you mean 'path'"),
        ({"path": path, "rows": 0}, r"parts\.mine\.rows=0: must be"),
    ):
        with pytest.raises(InputError, match=message):
            MixPool({"mine": part}, "", None, "error").load()


# -- sources and files -----------------------------------------------------------------------


def test_sources_hold_no_control_characters(write_jsonl: WriteJsonl) -> None:
    record = {"prompt": "Q", "completion": "A", "source": " a\x1b[31m\u202eb\n"}
    pool = load(write_jsonl([record]))
    assert pool.rows[0].source == "a [31m b"
    assert list(pool.changed.values()) == [1]


def test_a_file_of_several_names_is_read_once_and_told(
    write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    path = write_jsonl([LAYOUTS["alpaca"][0]], "a.jsonl")
    (tmp_path / "soft.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    for names in ([path, path], [path, tmp_path / "soft.jsonl"], [tmp_path / "*.jsonl"]):
        pool = load(*names)
        assert len(pool.rows) == 1
        (note,) = pool.notes
        assert "it is read once" in note


def test_links_that_loop_are_followed_once(write_jsonl: WriteJsonl, tmp_path: Path) -> None:
    deep = tmp_path / "one" / "two"
    deep.mkdir(parents=True)
    for name in ("loop", "again", "up"):
        (deep / name).symlink_to(tmp_path)
    (deep / "broken").symlink_to(deep / "broken")
    write_jsonl([LAYOUTS["alpaca"][0]], "one/two/a.jsonl")
    write_jsonl([LAYOUTS["alpaca"][0]], "top.jsonl")
    pool = load(f"{tmp_path}/**/*.jsonl")
    assert [row.source for row in pool.rows] == ["a", "top"]
    assert pool.notes == []


def test_a_saved_data_set_is_read_as_a_file(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([{"question": f"Q{i}", "answer": "A"} for i in range(5)])
    data.save_to_disk(tmp_path / "sums", num_shards=2)
    assert [row.instruction for row in load(tmp_path / "sums").rows] == [f"Q{i}" for i in range(5)]
    datasets.DatasetDict(train=data).save_to_disk(tmp_path / "split")
    assert {row.source for row in load(tmp_path / "split").rows} == {"split"}
    datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path / "splits")
    assert "holds the splits test, train; name one" in refusal(tmp_path / "splits")
    assert len(load(tmp_path / "splits" / "test").rows) == 5


def test_a_short_line_of_a_table_lacks_values_and_a_long_one_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion,input\nQ,A\n", encoding="utf-8")
    assert four(load(path).rows[0].__class__("", "Q", "", "A", "")) == four(load(path).rows[0])
    path.write_text('prompt,completion\n"Q\nQ",A\nQ,A,B\n', encoding="utf-8")
    assert refusal(path).startswith(f"{path}:4: 3 cells where the header names 2 columns")


def test_a_key_given_twice_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Q", "completion": "A", "completion": "B"}', encoding="utf-8")
    assert "two values for 'completion'" in refusal(path)


def test_a_local_folder_is_read_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n---\n"
    )
    for answer in ("old", "new"):
        (folder / "a.jsonl").write_text(json.dumps({"prompt": "Q", "completion": answer}))
        pool = HubPool(str(folder), None, "train", None, "error").load()
        assert [row.response for row in pool.rows] == [answer]
