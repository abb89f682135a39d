"""File formats and record forms: bytes on disk to :class:`~spice.records.Row`.

Understood, per record: ``instruction``/``input``/``response`` (or Alpaca's ``output``) with an
optional ``history`` of ``[user, assistant]`` turns; ``prompt``/``completion``; ``messages``
(``role``/``content``) and ShareGPT's ``conversations`` (``from``/``value``). Files are JSONL, JSON
or Parquet, plain or gzipped.
"""

from __future__ import annotations

import glob
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from spice.errors import InputError
from spice.records import Row

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant"}


class BadRowError(ValueError):
    """A record that is no row; the message says why, the reader adds where."""


def expand(pattern: str) -> list[Path]:
    """The files that a path or a pattern such as ``pools/*.jsonl`` names."""
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
    if not found:
        raise InputError(f"data.paths: no such file: {pattern}")
    return found


def read_file(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(where, source, record)`` for each record, a :class:`BadRowError` for a broken one.

    A file that cannot be read at all is an :class:`InputError`.
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    readers: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    if kind not in readers:
        raise InputError(
            f"{path}: unknown format {kind!r}; known are {', '.join(readers)} (and .gz)"
        )
    source = path.name.split(".")[0]
    try:
        for where, record in readers[kind](path):
            yield where, source, record
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", _parse(line)


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    with _open(path) as file:
        content = file.read()
    records = _parse(content)
    if (
        isinstance(records, BadRowError)
        and content.count(b"\n") > 1
        and content.lstrip()[:1] == b"{"
    ):
        yield from _read_jsonl(path)  # JSON lines under the name .json, as the hub often has them
        return
    if isinstance(records, BadRowError):
        raise InputError(f"{path}: {records}")
    if not isinstance(records, list):
        raise InputError(f"{path}: must hold a list of records, not {_kind(records)}")
    for i, record in enumerate(records):
        yield f"{path}: record {i + 1}", record


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with _open(path) as raw:
            file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw.read()))
        number = 0
        for batch in file.iter_batches():
            for record in batch.to_pylist():
                number += 1
                # Parquet writes absent keys as null.
                yield f"{path}: row {number}", {k: v for k, v in record.items() if v is not None}
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from error


def _parse(text: bytes) -> Any:
    """The JSON value, or the reason why there is none, as a record that no row can be made of."""
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRowError(f"not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        return BadRowError(f"not valid JSON: {error.msg} ({line}column {error.colno})")
    except RecursionError:
        return BadRowError("not valid JSON: nested too deeply")


def to_row(record: Any, source: str, columns: Mapping[str, str] | None = None) -> Row:
    """Understand one record, whichever of the known forms it has; raise :class:`BadRowError`."""
    if isinstance(record, BadRowError):
        raise record
    if not isinstance(record, dict):
        raise BadRowError(f"must be an object with named fields, not {_kind(record)}")
    renamed = {theirs: ours for ours, theirs in (columns or {}).items()}
    record = {renamed.get(key, key): value for key, value in record.items()}
    if "messages" in record or "conversations" in record:
        fields = _from_messages(record.get("messages") or record.get("conversations"))
    elif "prompt" in record and "instruction" not in record:
        fields = _from_prompt(record)
    else:
        fields = _from_instruction(record)
    if not fields["response"].strip():
        raise BadRowError("the response is empty")
    if not fields["instruction"].strip() and not fields["input"].strip():
        raise BadRowError("the instruction is empty")
    named = record.get("source")
    return Row(id="", source=named if isinstance(named, str) and named else source, **fields)


def _from_instruction(record: dict[str, Any]) -> dict[str, Any]:
    if "instruction" not in record:
        known = "'instruction', 'prompt', 'messages' or 'conversations'"
        raise BadRowError(f"no instruction: expected {known}, found {_keys(record)}")
    key = next((k for k in ("response", "output", "completion") if record.get(k) is not None), None)
    if key is None:
        raise BadRowError(f"no response: expected 'response' or 'output', found {_keys(record)}")
    return {
        "instruction": _text(record["instruction"], "instruction"),
        "input": _text(record.get("input") or "", "input"),
        "response": _text(record[key], key),
        "history": _history(record.get("history") or []),
        "system": _text(record.get("system") or "", "system"),
    }


def _from_prompt(record: dict[str, Any]) -> dict[str, Any]:
    prompt = record["prompt"]
    key = next((k for k in ("completion", "response") if record.get(k) is not None), None)
    if key is None:
        raise BadRowError(
            f"no response: expected 'completion' beside 'prompt', found {_keys(record)}"
        )
    completion = record[key]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _from_messages(prompt + completion)
    return {
        "instruction": _text(prompt, "prompt"),
        "input": "",
        "response": _text(completion, key),
        "history": _history(record.get("history") or []),
        "system": _text(record.get("system") or "", "system"),
    }


def _from_messages(messages: Any) -> dict[str, Any]:
    """The last assistant turn is the response; what precedes its question is history."""
    if not isinstance(messages, list) or not messages:
        raise BadRowError("'messages' must be a list of turns")
    turns = [_turn(message) for message in messages]
    system = "\n\n".join(text for role, text in turns if role == "system")
    turns = [turn for turn in turns if turn[0] != "system"]
    while turns and turns[0][0] == "assistant":  # ShareGPT's logs often start in the middle
        turns = turns[1:]
    if not turns or turns[-1][0] != "assistant":
        raise BadRowError("no response: the last turn of 'messages' must be the assistant's")
    if [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise BadRowError("the turns of 'messages' must alternate between user and assistant")
    pairs = [(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns), 2)]
    instruction, response = pairs[-1]
    return {
        "instruction": instruction,
        "input": "",
        "response": response,
        "history": tuple(pairs[:-1]),
        "system": system,
    }


def _turn(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRowError(f"a turn of 'messages' must be an object, not {_kind(message)}")
    role = message.get("role", message.get("from"))
    role = ROLES.get(str(role), role)
    if role not in {"system", "user", "assistant"}:
        raise BadRowError(f"unknown role {role!r} in 'messages'")
    content = message.get("content", message.get("value"))
    if isinstance(content, list):  # OpenAI's typed parts
        if any(not isinstance(p, dict) or p.get("type") != "text" for p in content):
            raise BadRowError("a turn of 'messages' holds something other than text")
        content = "".join(str(part.get("text", "")) for part in content)
    return str(role), _text(content, "content")


def _history(history: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(history, list) or any(
        not isinstance(turn, list | tuple) or len(turn) != 2 for turn in history
    ):
        raise BadRowError("'history' must be a list of [user, assistant] turns")
    return tuple((_text(u, "history"), _text(a, "history")) for u, a in history)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"'{key}' must be text, not {_kind(value)}")
    return value


def _keys(record: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(record)[:8]) or "nothing"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )
