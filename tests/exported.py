"""Runs that have chosen, and readers of what is exported of them, each by its trainer's rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from compose import composed
from hypothesis import strategies as st
from omegaconf import OmegaConf

from spice.data.identity import identify
from spice.records import Row

#: a turn: its role, its text, and whether it is learnt (of answers alone)
Turns = list[tuple[str, str, bool]]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SAID = TEXT.filter(str.strip)


def row(
    instruction: str,
    input: str,
    response: str,
    history: Sequence[tuple[str, str]] = (),
    system: str = "",
    taught: Sequence[bool] = (),
) -> Row:
    said = tuple(taught[: len(history) + 1])
    some = any(said) and not all(said)
    return Row("", instruction, input, response, "a", tuple(history), system, said if some else ())


HISTORY = st.lists(st.tuples(TEXT, TEXT), max_size=3)
ANSWERS = st.lists(st.booleans(), min_size=4, max_size=4)


def pools() -> st.SearchStrategy[list[Row]]:
    """Rows of all kinds, each with its id."""
    one = st.builds(row, SAID, TEXT, SAID, HISTORY, TEXT, ANSWERS)
    return st.lists(one, min_size=1, max_size=5).map(identify)


@cache
def configuration() -> Any:
    config = composed("data=jsonl", "data.paths=[pool.jsonl]", "selector=random", "finetune=none")
    return {key: value for key, value in config.items() if key != "hydra"}


def run_of(folder: Path, rows: Sequence[Row], picks: Sequence[int], supervise: str = "all") -> Path:
    """A run folder as one is left behind that has chosen ``picks`` of ``rows``."""
    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True)
    write(folder / "pool.jsonl", [row.as_dict() for row in rows])
    config = OmegaConf.create(configuration())
    config.data.paths, config.cache_dir = [str(folder / "pool.jsonl")], str(folder / "cache")
    config.template.supervise = supervise
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    chosen = [rows[pick] for pick in picks]
    selection = {"n": len(rows), "indices": list(picks), "ids": [row.id for row in chosen]}
    told = json.dumps({**selection, "selector": "random"})
    (run / "selection.json").write_text(told, encoding="utf-8")
    write(run / "selected.jsonl", [row.as_dict() for row in chosen])
    return run


def write(path: Path, records: Sequence[Any]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8", newline="\n")


def turns(row: Row) -> Turns:
    """What a row says, and which answers it wants to be learnt."""
    learnt = iter(row.learnt())
    said = [*row.messages(), {"role": "assistant", "content": row.response}]
    return [(t["role"], t["content"], t["role"] == "assistant" and next(learnt)) for t in said]


def unmasked(of: Turns) -> Turns:
    """The same where every answer is learnt."""
    return [(role, said, role == "assistant") for role, said, _ in of]


def as_llamafactory_reads(path: Path, config: str) -> list[Turns]:
    """By its data README: an entry, columns and tags with their defaults, and turns in turn."""
    told = yaml.safe_load(config)
    registry = Path(told["dataset_dir"]) / "dataset_info.json"
    entry = json.loads(registry.read_text(encoding="utf-8"))[told["dataset"]]
    assert entry["formatting"] == "sharegpt"
    file = registry.parent / entry["file_name"]
    assert file == path
    columns = {"messages": "conversations", **entry["columns"]}
    records = json.loads(file.read_text(encoding="utf-8"))
    history = not told.get("mask_history", False)
    return [_of_sharegpt(record, columns, history) for record in records]


def _of_sharegpt(record: dict[str, Any], columns: dict[str, str], history: bool) -> Turns:
    said, system = record[columns["messages"]], record[columns["system"]]
    assert [turn["from"] for turn in said] == ["human", "gpt"] * (len(said) // 2)
    roles = {"human": "user", "gpt": "assistant"}
    found = [("system", system, False)] if system else []
    for number, turn in enumerate(said, start=1):
        learnt = turn["from"] == "gpt" and (history or number == len(said))
        found.append((roles[turn["from"]], turn["value"], learnt))
    return found


def as_openai_reads(path: Path) -> list[Turns]:
    """By its fine-tuning guide: no other keys, and a weight of 0 or 1 on the assistant's turns."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
        assert record.keys() == {"messages"}
        found.append([_of_openai(message) for message in record["messages"]])
        assert found[-1][-1][0] == "assistant"
    return found


def _of_openai(message: dict[str, Any]) -> tuple[str, str, bool]:
    role, said = message["role"], message["content"]
    allowed = {"role", "content", "weight"} if role == "assistant" else {"role", "content"}
    assert message.keys() <= allowed
    assert role in {"system", "user", "assistant"}
    assert message.get("weight") in {None, 0, 1}
    return role, said, role == "assistant" and message.get("weight") != 0


def as_axolotl_reads(config: str, cache: Path) -> list[Turns]:
    """By its page on conversations: a turn's own flag, or else whether its role is learnt."""
    [told] = yaml.safe_load(config)["datasets"]
    assert (told["type"], told["ds_type"]) == ("chat_template", "json")
    flag = told.get("message_field_training")
    return [[_of_axolotl(turn, flag) for turn in record[told["field_messages"]]]
            for record in loaded(Path(told["path"]), cache)]  # fmt: skip


def _of_axolotl(turn: dict[str, Any], flag: str | None) -> tuple[str, str, bool]:
    own = turn.get(flag) if flag else None
    return turn["role"], turn["content"], turn["role"] == "assistant" if own is None else own


def loaded(path: Path, cache: Path) -> Any:
    """A JSON file as ``datasets`` reads it."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))
