"""Rows in the forms that trainers read, and what their configurations then need.

=============  ===================================================================================
llamafactory   ShareGPT's ``conversations`` with a ``system`` beside them; ``dataset_info.json``
trl            ``messages``, which ``SFTTrainer`` calls conversational
axolotl        ``messages``, read by ``type: chat_template``
openai         ``messages`` and nothing else, as OpenAI's fine-tuning takes them
datasets       the fields of our rows, in a folder for ``datasets.load_from_disk``
ids            the rows' ids, one a line
=============  ===================================================================================

A conversation's last user turn is the instruction with the input below it, which is what was read
when rows were chosen. LLaMA-Factory's Alpaca form would put them together in another way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spice.records import Row

FEWEST = 10  # rows that OpenAI's fine-tuning takes


@dataclass(frozen=True)
class Masks:
    """Rows by which of several answers are to be learnt: ``all``, the ``last`` alone, or ``some``.

    Rows with one answer are none of these.
    """

    rows: int
    all: int
    last: int
    some: int

    @classmethod
    def of(cls, rows: Iterable[Row], *, last_alone: bool) -> Masks:
        """Those of some rows; with ``last_alone`` no answer of a history is learnt."""
        found = {"rows": 0, "all": 0, "last": 0, "some": 0}
        for row in rows:
            found["rows"] += 1
            if row.history:
                found[_kind(row.learnt(last_alone=last_alone))] += 1
        return cls(**found)

    @property
    def masked(self) -> int:
        """Rows with an answer that is not to be learnt."""
        return self.last + self.some

    @property
    def history_masked(self) -> bool:
        """Whether rows learn their last answers, and no others."""
        return self.last > 0 and self.all == self.some == 0


def _kind(learnt: Sequence[bool]) -> str:
    if all(learnt):
        return "all"
    return "last" if learnt[-1] and not any(learnt[:-1]) else "some"


@dataclass(frozen=True)
class Form:
    """How a trainer reads rows.

    ``record`` gives what stands for a row; its second argument says of each answer whether it is
    to be learnt, and is None where all answers of all rows are. ``config`` is what the trainer is
    to be told of a file, and ``place`` where; ``lost`` says how many rows' masks the form does not
    keep, and ``ending`` is that of the file's name.
    """

    ending: str
    place: str
    record: Callable[[Row, Sequence[bool] | None], Any]
    config: Callable[[Path, Masks], str]
    lost: Callable[[Masks], int] = lambda masks: 0


def messages(row: Row) -> list[dict[str, Any]]:
    """A row's turns, the response last."""
    return [*row.messages(), {"role": "assistant", "content": row.response}]


def sharegpt(row: Row, learnt: Sequence[bool] | None) -> dict[str, Any]:
    """A row as LLaMA-Factory reads it by :func:`entry`."""
    sides = {"user": "human", "assistant": "gpt"}
    said = [
        {"from": sides[turn["role"]], "value": turn["content"]}
        for turn in messages(row)
        if turn["role"] != "system"
    ]
    return {"conversations": said, "system": row.system, **_origin(row)}


def entry(file: str) -> dict[str, Any]:
    """What ``dataset_info.json`` says of a file of :func:`sharegpt` rows."""
    columns = {"messages": "conversations", "system": "system"}
    return {"file_name": file, "formatting": "sharegpt", "columns": columns}


def _marked(row: Row, learnt: Sequence[bool] | None, key: str, kind: type) -> list[dict[str, Any]]:
    """A row's turns; each answer has ``key`` once there is something to say by it.

    Then all of them have it: who reads JSON by columns takes them from what comes first.
    """
    turns = messages(row)
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    for turn, learn in zip(answers, learnt or (), strict=learnt is not None):
        turn[key] = kind(learn)
    return turns


def _origin(row: Row) -> dict[str, str]:
    """Columns that trainers leave alone."""
    return {"id": row.id, "source": row.source}


def _llamafactory_config(path: Path, masks: Masks) -> str:
    name = path.name.removesuffix(FORMS["llamafactory"].ending)
    lines = [f"dataset_dir: {_quoted(path.parent)}", f"dataset: {name}"]
    return "\n".join([*lines, *["mask_history: true"] * masks.history_masked])


def _trl_config(path: Path, masks: Masks) -> str:
    read = f'load_dataset("json", data_files={_quoted(path)}, split="train")'
    return f"SFTTrainer(…, SFTConfig(assistant_only_loss=True), train_dataset={read})"


def _axolotl_config(path: Path, masks: Masks) -> str:
    lines = ["datasets:", f"  - path: {_quoted(path)}", "    ds_type: json",
             "    type: chat_template", "    field_messages: messages",
             *["    message_field_training: train"] * (masks.masked > 0)]  # fmt: skip
    return "\n".join(lines)


def _openai_config(path: Path, masks: Masks) -> str:
    return f'client.files.create(file=open({_quoted(path)}, "rb"), purpose="fine-tune")'


def _quoted(path: Path) -> str:
    """A path as a text of Python's, and of YAML's."""
    return json.dumps(str(path), ensure_ascii=False)


FORMS = {
    "llamafactory": Form(
        ".llamafactory.json",
        "in the training's yaml",
        sharegpt,
        _llamafactory_config,
        lambda masks: 0 if masks.history_masked else masks.masked,
    ),
    "trl": Form(
        ".trl.jsonl",
        "in the training's script",
        lambda row, learnt: {"messages": messages(row), **_origin(row)},
        _trl_config,
        lambda masks: masks.masked,
    ),
    "axolotl": Form(
        ".axolotl.jsonl",
        "in the training's yaml",
        lambda row, learnt: {"messages": _marked(row, learnt, "train", bool), **_origin(row)},
        _axolotl_config,
    ),
    "openai": Form(
        ".openai.jsonl",
        "with OpenAI's client",
        lambda row, learnt: {"messages": _marked(row, learnt, "weight", int)},
        _openai_config,
    ),
    "datasets": Form(
        ".datasets",
        "in Python",
        lambda row, learnt: row,
        lambda path, masks: f"datasets.load_from_disk({_quoted(path)})",
    ),
    "ids": Form(
        ".ids.txt",
        "in it",
        lambda row, learnt: row.id,
        lambda path, masks: "one id a line",
    ),
}
