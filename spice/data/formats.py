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
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from spice.errors import InputError
from spice.records import Row

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
}
RESPONSES = ("response", "output", "completion")  # the names of the field to be learnt


class BadRowError(ValueError):
    """A record that is no row; the message says why, the reader adds where."""


def expand(pattern: str, key: str = "data.paths") -> list[Path]:
    """The files that a path or a pattern such as ``pools/*.jsonl`` names.

    Raises:
        InputError: that is a folder, or no file at all.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        raise InputError(f"{key}: {pattern} is a folder; name its files, as in *.jsonl")
    found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
    if not found:
        raise InputError(f"{key}: no such file: {pattern}")
    return found


def read_file(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(where, source, record)`` for each record, a :class:`BadRowError` for a broken one.

    A file that cannot be read at all is an :class:`InputError`.
    """
    unpacked = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = unpacked.suffix.lower()
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
    try:
        for where, record in readers[kind](path):
            yield where, unpacked.stem, record
    except (OSError, EOFError, zlib.error) as error:
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
    if isinstance(records, BadRowError):
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            yield from _read_jsonl(path)  # JSON lines named .json, as the hub often has them
            return
        raise InputError(f"{path}: {records}")
    if isinstance(records, dict):
        records = [records]  # JSON lines again, of which there is but one
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
                yield f"{path}: row {number}", record
    except (pyarrow.ArrowException, ValueError) as error:
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
    except ValueError:  # Python reads no number of more than 4,300 digits
        return BadRowError("not valid JSON: a number with too many digits")


def to_row(record: Any, source: str, columns: Mapping[str, str] | None = None) -> Row:
    """Understand one record, whichever of the known forms it has.

    Raises:
        BadRowError: it has none of them, holds other things than text, or lacks an instruction or a
            response.
    """
    if isinstance(record, BadRowError):
        raise record
    if not isinstance(record, dict):
        raise BadRowError(f"must be an object with named fields, not {_kind(record)}")
    record = _rename({k: v for k, v in record.items() if v is not None}, columns or {})
    if "messages" in record or "conversations" in record:
        fields = _from_messages(record.get("messages") or record.get("conversations"))
        asked = [_text(record.get("system", ""), "system"), fields["system"]]
        fields["system"] = "\n\n".join(text for text in asked if text)
    elif "prompt" in record and "instruction" not in record:
        fields = _from_prompt(record)
    else:
        fields = _from_instruction(record)
    if not fields["response"].strip():
        raise BadRowError("the response is empty")
    if not fields["instruction"].strip() and not fields["input"].strip():
        raise BadRowError("the instruction is empty")
    return Row(id="", source=_text(record.get("source", ""), "source") or source, **fields)


def _rename(record: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """``columns`` maps our names to theirs; a column that is asked for goes before its namesake."""
    taken = {ours: record[theirs] for ours, theirs in columns.items() if theirs in record}
    return {k: v for k, v in record.items() if k not in columns.values()} | taken


def _from_instruction(record: dict[str, Any]) -> dict[str, Any]:
    if "instruction" not in record:
        known = "'instruction', 'prompt', 'messages' or 'conversations'"
        raise BadRowError(f"no instruction: expected {known}, found {_keys(record)}")
    key = _response_key(record)
    return {
        "instruction": _text(record["instruction"], "instruction"),
        "input": _text(record.get("input", ""), "input"),
        "response": _text(record[key], key),
        "history": _history(record.get("history", [])),
        "system": _text(record.get("system", ""), "system"),
    }


def _from_prompt(record: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = record["prompt"], record[_response_key(record)]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _from_messages(prompt + completion)
    return _from_instruction({**record, "instruction": _text(prompt, "prompt"), "input": ""})


def _response_key(record: dict[str, Any]) -> str:
    for key in RESPONSES:
        if key in record:
            return key
    known = " or ".join(map(repr, RESPONSES))
    raise BadRowError(f"no response: expected {known}, found {_keys(record)}")


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
    if not isinstance(role, str) or role not in ROLES:
        raise BadRowError(f"unknown role {role!r} in 'messages'")
    content = message.get("content", message.get("value"))
    if isinstance(content, list):  # OpenAI's typed parts
        if any(not isinstance(p, dict) or p.get("type") != "text" for p in content):
            raise BadRowError("a turn of 'messages' holds something other than text")
        content = "".join(_text(part.get("text"), "text") for part in content)
    return ROLES[role], _text(content, "content")


def _history(history: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(history, list) or any(
        not isinstance(turn, list | tuple) or len(turn) != 2 for turn in history
    ):
        raise BadRowError("'history' must be a list of [user, assistant] turns")
    return tuple((_text(u, "history"), _text(a, "history")) for u, a in history)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"'{key}' must be text, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON's \\ud83d without its other half: no file holds it
        raise BadRowError(f"'{key}' holds half a character ({value[error.start]!r})") from None
    return value


def _keys(record: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(record)[:8]) or "nothing"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )
