"""Records to rows: which column of which known layout holds what, and what nobody reads.

Understood are Alpaca (``instruction``/``input``/``output``), Dolly (``instruction``/``context``/
``response``), OpenOrca (``system_prompt``/``question``/``response``), GSM8K (``question``/
``answer``), ``prompt``/``completion`` as text or as turns, chats (``messages``), ShareGPT
(``conversations``), UltraChat (``data``), other pairs of text, and the rows that we write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spice.data.conversations import (
    CALLS,
    Conversation,
    decoded,
    has_role,
    read_conversation,
    untaught,
)
from spice.data.values import BadRowError, absent, empty, kind, listed, one_line, text
from spice.records import Row

#: the columns that hold a field in one layout or another; of several the first with a value counts
COLUMNS = {
    "messages": ("messages", "conversations", "conversation", "data"),
    "instruction": ("instruction", "prompt", "question", "query", "problem", "inputs", "input"),
    "input": ("input", "context"),
    "response": ("response", "output", "completion", "solution", "answer", "targets"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "taught": ("taught",),
    "source": ("source",),
}
PLAIN = ("messages", "conversations")  # these are turns, or the row is bad
OPTIONAL = ("input", "system")  # fields of a row that may be nothing
CLEANED = "sources with control characters, which were left out"
OUGHT = {  # names of what ought to be there, as told where it is not
    "instruction": "'instruction', 'prompt', 'question', 'messages' or 'conversations'",
    "response": "'response' or 'output' or 'completion' or 'answer'",
}


@dataclass(frozen=True)
class Rules:
    """How records are read: ``columns`` maps our fields to their columns, ``roles`` names to ours.

    ``mend`` repairs turns that do not alternate (:mod:`spice.data.conversations`).
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    mend: bool = False


@dataclass
class Found:
    """A record's row, and what else is to be told of it.

    ``unread`` are the values that nobody reads, by column or key of turns; ``changed`` is what was
    done to the record, ``roles`` are the names of its turns, None where it has no turns.
    """

    row: Row
    unread: dict[str, Any]
    changed: list[str]
    roles: set[str] | None


class Fields:
    """A record's values by our names; it remembers which column holds what."""

    def __init__(self, record: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        self.record = record
        self._asked = {ours: theirs for ours, theirs in columns.items() if theirs in record}
        self._columns: dict[str, str | None] = {}

    def column(self, name: str) -> str | None:
        """The column that holds a field; one that was asked for goes before its namesakes."""
        if name not in self._columns:
            self._columns[name] = self._asked.get(name) or self._known(name)
        return self._columns[name]

    def _known(self, name: str) -> str | None:
        taken = {*self._asked.values(), *self._columns.values()}
        there = [c for c in COLUMNS[name] if c not in taken and self._holds(name, c)]
        full = [column for column in there if not empty(self.record[column])]
        return next(iter(full or there), None)

    def _holds(self, name: str, column: str) -> bool:
        value: Any = self.record.get(column)
        if absent(value):
            return False
        if name == "messages" and column not in PLAIN:  # everyday words: only turns count
            said = _are_turns(value) and has_role(value[0])
            return said or (column == "data" and _are_texts(value))
        return isinstance(value, str) or column == name or name not in OPTIONAL

    def value(self, name: str) -> Any:
        """The field's value; None where there is none."""
        column = self.column(name)
        return None if column is None or absent(self.record[column]) else self.record[column]

    def text(self, name: str) -> str:
        """The field's text; nothing where there is none.

        Raises:
            BadRowError: it is something else.
        """
        value = self.value(name)
        return "" if value is None else text(value, self.column(name) or name)

    def unread(self, row: Row) -> dict[str, Any]:
        """The values that nobody has read, by column, but for those that the row has all the same.

        UltraChat, for one, gives the first turn once more as ``prompt``.
        """
        read = set(self._columns.values())
        others = {c: v for c, v in self.record.items() if c not in read and not empty(v)}
        if not others:
            return {}
        known = [self.record[column] for column in read if column is not None]
        known += [turn["content"] for turn in row.messages()]
        return {column: value for column, value in others.items() if value not in known}


def find_row(
    record: Any, source: str, rules: Rules | None = None, named: str | None = None
) -> Found:
    """Understand one record, whichever of the known layouts it has.

    ``source`` is that of a record that names none; ``named`` is that of all.

    Raises:
        BadRowError: it has none of them, holds other things than text, or lacks an instruction or a
            response.
    """
    if isinstance(record, BadRowError):
        raise record
    if not isinstance(record, dict):
        raise BadRowError(f"must be an object with named fields, not {kind(record)}")
    if calls := [key for key in CALLS if not empty(record.get(key))]:
        raise BadRowError(f"{calls[0]!r} holds something: tool calls cannot be rendered")
    rules = rules or Rules()
    fields = Fields(record, rules.columns)
    talk = _conversation(fields, rules)
    content = _of_turns(fields, talk) if talk else _of_texts(fields)
    if not content["response"].strip():
        raise BadRowError("the response is empty")
    if not content["instruction"].strip() and not content["input"].strip():
        raise BadRowError("the instruction is empty")
    given = fields.text("source")
    row = Row(id="", source=one_line(named or given) or one_line(source), **content)
    unread = fields.unread(row) | (talk.unread if talk else {})
    changed = [*(talk.mended if talk else []), *_cleaned(given if not named else "")]
    return Found(row, unread, changed, talk.roles if talk else None)


def _cleaned(source: str) -> list[str]:
    return [CLEANED] if one_line(source) != source.strip() else []


def _conversation(fields: Fields, rules: Rules) -> Conversation | None:
    """The record's turns, if it has any."""
    column = fields.column("messages")
    if column and (not empty(fields.record[column]) or fields.column("instruction") is None):
        return read_conversation(fields.value("messages"), column, rules.roles, rules.mend)
    prompt, completion = fields.value("instruction"), fields.value("response")
    if not (_are_turns(prompt) and _are_turns(completion)):
        return None
    turns = [*untaught(prompt, rules.roles), *completion]  # what is asked with is not learnt
    return read_conversation(turns, str(fields.column("instruction")), rules.roles, rules.mend)


def _of_turns(fields: Fields, talk: Conversation) -> dict[str, Any]:
    """The last answer is the response; what precedes its question is history."""
    *history, (instruction, response) = talk.pairs
    asked = (fields.text("system"), talk.system)
    return {
        "instruction": instruction,
        "input": "",
        "response": response,
        "history": tuple(history),
        "system": "\n\n".join(said for said in asked if said),
        "taught": talk.taught,
    }


def _of_texts(fields: Fields) -> dict[str, Any]:
    if fields.value("instruction") is None and fields.value("input") is None:
        raise BadRowError(f"no instruction: expected {OUGHT['instruction']}, {_found(fields)}")
    instruction = _plain(fields, "instruction")
    if fields.value("response") is None:
        raise BadRowError(f"no response: {_no_response(fields)}")
    history = _history(fields.value("history"))
    return {
        "instruction": instruction,
        "input": fields.text("input"),
        "response": _plain(fields, "response"),
        "history": history,
        "system": fields.text("system"),
        "taught": _taught(fields.value("taught"), len(history) + 1),
    }


def _plain(fields: Fields, name: str) -> str:
    if _are_texts(fields.value(name)):
        raise BadRowError(
            f"'{fields.column(name)}' must be text, not a list; an object of whole columns has to "
            "be written as one object per row"
        )
    return fields.text(name)


def _no_response(fields: Fields) -> str:
    chosen = fields.record.get("chosen")
    if empty(chosen):
        return f"expected {OUGHT['response']}, {_found(fields)}"
    ours = "messages" if _are_turns(chosen) else "response"
    return (
        "'chosen' and 'rejected' are a pair to prefer from; "
        f"data.columns={{{ours}: chosen}} reads the better one"
    )


def _found(fields: Fields) -> str:
    there = [column for column, value in fields.record.items() if not absent(value)]
    wrapped = [column for column in there if _are_turns(fields.record[column])]
    inside = [f"; {c!r} holds a list: give that alone, as a file of its own" for c in wrapped[:1]]
    return f"found {listed(there)}{''.join(inside)}"


def _history(history: Any) -> tuple[tuple[str, str], ...]:
    history = decoded([] if empty(history) else history)
    if not isinstance(history, list) or any(
        not isinstance(turn, list | tuple) or len(turn) != 2 for turn in history
    ):
        raise BadRowError("'history' must be a list of [user, assistant] turns")
    return tuple((text(u, "history"), text(a, "history")) for u, a in history)


def _taught(taught: Any, answers: int) -> tuple[bool, ...]:
    """What our own files say of each answer."""
    taught = decoded([] if empty(taught) else taught)
    if taught == []:
        return ()
    if not isinstance(taught, list) or [type(t) for t in taught] != [bool] * answers:
        raise BadRowError(f"'taught' must be a list of true and false, {answers} for the answers")
    if not any(taught):
        raise BadRowError("no answer is to be learnt: 'taught' is false for each")
    return () if all(taught) else tuple(taught)


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
