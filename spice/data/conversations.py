"""The turns of a conversation: who says what, which answers are to be learnt, what is mended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from spice.data.values import BadRowError, absent, empty, kind, text
from spice.errors import did_you_mean

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
ROLE_KEYS = ("role", "from")
TEXT_KEYS = ("content", "value")
CALLS = ("tool_calls", "function_call")  # keys that hold calls; no template here writes them
TOOL_ROLES = {
    "tool", "function", "observation", "function_call", "function_response", "tool_call",
    "tool_response", "tool_result", "ipython",
}  # fmt: skip
#: what mending does, as it is told
CUT, JOINED, DROPPED = "trailing user turns cut", "successive turns joined", "empty turns dropped"


@dataclass(frozen=True)
class Turn:
    """What one side says; ``taught`` is whether it is learnt, if it is an answer."""

    role: str
    text: str
    taught: bool = True


@dataclass
class Conversation:
    """A conversation that ends with an answer.

    ``pairs`` are a user's turn and its answer each, ``taught`` says of each answer whether it is to
    be learnt (empty: all are). ``unread`` are values that nobody reads, by where they stand;
    ``mended`` is what was done to the turns, and ``roles`` are the names met.
    """

    system: str
    pairs: list[tuple[str, str]]
    taught: tuple[bool, ...]
    unread: dict[str, Any] = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)
    roles: set[str] = field(default_factory=set)


def read_conversation(
    messages: Any, column: str, roles: Mapping[str, str], mend: bool
) -> Conversation:
    """Understand a list of turns; ``column`` is what holds it.

    ``roles`` maps names of roles to system, user or assistant. ``mend`` drops empty turns, joins
    successive ones of one role and cuts the user's at the end; without it they make a bad row.

    Raises:
        BadRowError: these are no turns, hold other things than text, or do not alternate.
    """
    given = decoded(messages)
    if not isinstance(given, list) or not given:
        raise BadRowError(f"'{column}' must be a list of turns")
    found = Conversation("", [], ())
    turns = [_turn(message, column, roles, found) for message in _with_roles(given)]
    system = [turn.text for turn in turns if turn.role == "system"]
    found.system = "\n\n".join(said for said in system if said)
    turns = [turn for turn in turns if turn.role != "system"]
    if mend:
        turns = _mended(turns, found)
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), len(turns))
    if first < len(turns) and first:  # ShareGPT's logs often start in the middle
        found.unread[f"{column}[] before the first user's"] = turns[0].text
    _pair(turns[first:], column, found)
    return found


def decoded(value: Any) -> Any:
    """A list, where a table without lists holds it as JSON; else the value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def has_role(message: Mapping[str, Any]) -> bool:
    """Whether this is a turn, and no record of another kind."""
    return any(key in message for key in ROLE_KEYS)


def untaught(turns: list[dict[str, Any]], roles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The turns, of which no answer is to be learnt."""
    known = {**ROLES, **roles}
    return [
        {**turn, "weight": 0} if known.get(str(_first(turn, ROLE_KEYS))) == "assistant" else turn
        for turn in turns
    ]


def _with_roles(messages: list[Any]) -> list[Any]:
    """UltraChat's bare texts are the user's and the assistant's in turn."""
    if len(messages) < 2 or not all(isinstance(message, str) for message in messages):
        return messages
    sides = ("user", "assistant")
    return [{"role": sides[i % 2], "content": said} for i, said in enumerate(messages)]


def _turn(message: Any, column: str, roles: Mapping[str, str], found: Conversation) -> Turn:
    if not isinstance(message, dict):
        raise BadRowError(f"a turn of '{column}' must be an object, not {kind(message)}")
    if calls := [key for key in CALLS if not empty(message.get(key))]:
        raise BadRowError(f"a turn of '{column}' holds {calls[0]!r}: tool calls cannot be rendered")
    role = _role(_first(message, ROLE_KEYS), column, roles, found)
    content = _first(message, TEXT_KEYS)
    said = _said(content, column)
    for key, value in message.items():
        if key not in (*ROLE_KEYS, "weight") and not empty(value) and value not in (content, said):
            found.unread[f"{column}[].{key}"] = value
    return Turn(role, said, _taught(message.get("weight"), role, column, found))


def _first(message: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((message[key] for key in keys if not absent(message.get(key))), None)


def _role(name: Any, column: str, roles: Mapping[str, str], found: Conversation) -> str:
    if isinstance(name, str):
        found.roles.add(name)
        if role := roles.get(name, ROLES.get(name)):
            return role
        if name in TOOL_ROLES:
            raise BadRowError(
                f"a turn of '{column}' has the role {name!r}: tool calls cannot be rendered"
            )
        ours = ROLES.get(name.lower(), "user")
        others = ", ".join(side for side in dict.fromkeys(ROLES.values()) if side != ours)
        raise BadRowError(
            f"unknown role {name!r} in '{column}'.{did_you_mean(name, (*roles, *ROLES))} "
            f"data.roles={{{name}: {ours}}} (or {others}) says whose turns these are"
        )
    raise BadRowError(f"unknown role {name!r} in '{column}'")


def _said(content: Any, column: str) -> str:
    if isinstance(content, list):  # OpenAI's typed parts
        if any(not isinstance(p, dict) or p.get("type") != "text" for p in content):
            raise BadRowError(f"a turn of '{column}' holds something other than text")
        content = "".join(text(part.get("text"), "text") for part in content)
    return text(content, "content")


def _taught(weight: Any, role: str, column: str, found: Conversation) -> bool:
    """OpenAI's weight: 0 keeps an answer from being learnt, 1 or none does not."""
    if absent(weight):
        return True
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadRowError(f"a turn of '{column}' has weight {weight!r}: it must be 0 or 1")
    if weight and role != "assistant":
        found.unread[f"{column}[].weight of turns that are no answers"] = weight
    return bool(weight)


def _mended(turns: list[Turn], found: Conversation) -> list[Turn]:
    said = [turn for turn in turns if turn.text.strip()]
    joined = [_joined(list(side)) for _, side in groupby(said, key=lambda turn: turn.role)]
    cut = joined[:-1] if joined and joined[-1].role == "user" else joined
    steps = ((DROPPED, turns, said), (JOINED, said, joined), (CUT, joined, cut))
    found.mended += [what for what, before, after in steps if len(after) < len(before)]
    return cut


def _joined(side: list[Turn]) -> Turn:
    if len({turn.taught for turn in side}) > 1 and side[0].role == "assistant":
        raise BadRowError("successive answers of different weight cannot be joined")
    return replace(side[0], text="\n\n".join(turn.text for turn in side))


def _pair(turns: list[Turn], column: str, found: Conversation) -> None:
    if not turns or turns[-1].role != "assistant":
        cut = " (data.mend=true cuts the user's at the end)" if turns else ""
        raise BadRowError(f"no response: the last turn of '{column}' must be the assistant's{cut}")
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise BadRowError(
            f"the turns of '{column}' must alternate between user and assistant (data.mend=true "
            "joins successive turns of one role)"
        )
    asked, answers = turns[::2], turns[1::2]
    found.pairs = [(u.text, a.text) for u, a in zip(asked, answers, strict=True)]
    if not any(answer.taught for answer in answers):
        raise BadRowError(f"no answer of '{column}' is to be learnt: each has weight 0")
    if not all(answer.taught for answer in answers):
        found.taught = tuple(answer.taught for answer in answers)
