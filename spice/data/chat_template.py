"""What a tokenizer's chat template makes of a conversation, and where in it each turn stands.

The template is a program of the checkpoint's: it may trim, move, rewrite or leave out what it is
given. So nothing is taken for granted: a turn counts as written where its text is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property, partial
from typing import TYPE_CHECKING

from spice.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
Span = tuple[int, int]  # from, to: characters

# Put around a stand-in, to see whether a template trims what it is given.
PAD = " \t\n"
STAND_IN_END = "\ue0a4"


class UnwritableError(InputError):
    """A conversation that does not arrive in the template's text, and ``why``."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"{why}; use template=plain")


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation as text.

    ``said`` are the places of what somebody said, in the text's order; all else is the template's.
    ``answers`` are those of the assistant's turns, the first first, from where generation starts
    up to the end mark and with it.
    """

    text: str
    said: tuple[Span, ...]
    answers: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What a template writes around the turns of a conversation of given roles.

    ``slots`` are, in the text's order, what stands before a turn, the turn's number, and whether
    white space at its left and right is kept; ``tail`` is what stands behind the last.
    """

    slots: tuple[tuple[str, int, bool, bool], ...]
    tail: str

    def fill(self, contents: Sequence[str]) -> tuple[str, list[tuple[Span, int]]]:
        """The text with ``contents`` in their places, and these places with the turns' numbers."""
        parts, places, at = [], [], 0
        for before, turn, left, right in self.slots:
            content = contents[turn]
            content = content if left else content.lstrip()
            content = content if right else content.rstrip()
            at += len(before)
            places.append(((at, at + len(content)), turn))
            at += len(content)
            parts += [before, content]
        return "".join([*parts, self.tail]), places


class ChatTemplate:
    """The chat template of a tokenizer, whose clock stands still at ``day``.

    ``ending`` is what it writes behind an answer, ``end_mark`` the part of it up to the first
    special token (empty if there is none), ``end_id`` that token.

    Raises:
        InputError: it leaves answers out, or cannot write any.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, day: date) -> None:
        self._tokenizer, self._day = tokenizer, day
        self._skeletons: dict[tuple[tuple[str, ...], bool], _Skeleton | None] = {}
        self._openings: dict[tuple[str, ...], str] = {}
        answer = "(the answer)"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        _, found, self.ending = self.write(turns).rpartition(answer)
        if not found:
            raise InputError("the tokenizer's chat template leaves answers out; use template=plain")
        self.end_mark, self.end_id = "", None
        tokens = tokenizer.added_tokens_decoder.items()
        marks = {str(t): i for i, t in tokens if t.special and str(t) in self.ending}
        if marks:
            first = min(marks, key=self.ending.index)
            self.end_id = marks[first]
            self.end_mark = self.ending[: self.ending.index(first) + len(first)]

    def write(self, messages: Messages, *, asking: bool = False) -> str:
        """The template's text; ``asking`` for an answer behind it.

        Raises:
            UnwritableError: the template raises.
        """
        try:
            return str(self._render(messages=messages, add_generation_prompt=asking))
        except Exception as error:  # the template is a program of its own, and may raise anything
            turns = ", ".join(message["role"] for message in messages)
            raise UnwritableError(
                f"the tokenizer's chat template cannot write a conversation of {turns}: {error}"
            ) from error

    @cached_property
    def _render(self) -> Callable[..., str]:
        """What ``apply_chat_template`` calls; its own face lets nobody set the clock."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        template = _compile_jinja_template(self._tokenizer.get_chat_template())
        clock = datetime.combine(self._day, time()).strftime
        given = {**self._tokenizer.special_tokens_map, "tools": None, "documents": None}
        return partial(template.render, given, strftime_now=clock)

    def written(self) -> str:
        """All that it writes itself around a conversation's turns."""
        turns = ("user", "assistant", "user")
        for roles in (("system", *turns), turns):
            if skeleton := self._skeleton(roles, False):
                return "".join([*(slot[0] for slot in skeleton.slots), skeleton.tail])
        return ""

    def script(self, messages: Messages) -> Script:
        """A conversation whose last turn is an answer, up to that answer's end mark.

        Raises:
            UnwritableError: a turn does not arrive, or no boundary of an answer is defined.
        """
        text, prompt = self.write(messages), self.write(messages[:-1], asking=True)
        if not text.startswith(prompt):
            raise UnwritableError(
                "the tokenizer's chat template writes the prompt differently once it is answered, "
                "so the response's boundary is not defined"
            )
        if not text.endswith(self.ending):
            raise UnwritableError(
                "the tokenizer's chat template does not end all answers in the same way, "
                "so the end token is not defined"
            )
        places = self.locate(messages, text)
        answers = self._earlier_answers(messages, text, {turn: s for s, turn in places})
        text = text.removesuffix(self.ending) + self.end_mark
        answers.append((len(prompt), len(text)))
        if any(a[1] > b[0] for a, b in itertools.pairwise(answers)):
            raise UnwritableError("the tokenizer's chat template writes answers out of their order")
        return Script(text, tuple(span for span, _ in places), tuple(answers))

    def locate(
        self, messages: Messages, text: str, *, asking: bool = False
    ) -> list[tuple[Span, int]]:
        """Where each turn stands in the template's own ``text``, with its number.

        Raises:
            UnwritableError: a turn is not found there, but for white space around it.
        """
        skeleton = self._skeleton(tuple(message["role"] for message in messages), asking)
        if skeleton is not None and len(skeleton.slots) == len(messages):
            filled, places = skeleton.fill([message["content"] for message in messages])
            if filled == text:
                return places
        places = [(self._find(messages, turn, text, asking), turn) for turn in range(len(messages))]
        places.sort()
        for ((_, end), _), ((start, _), turn) in itertools.pairwise(places):
            if start < end:
                raise _lost(messages, turn)
        return places

    def _find(self, messages: Messages, turn: int, text: str, asking: bool) -> Span:
        """Where one turn stands: it ends where a stand-in for it would, the last if it is twice."""
        swapped = [dict(message) for message in messages]
        swapped[turn]["content"] = mark = _stand_in(turn)
        try:
            _, found, behind = self.write(swapped, asking=asking).rpartition(mark)
        except UnwritableError:
            found = behind = ""
        said = messages[turn]["content"]
        if found and text.endswith(behind):
            end = len(text) - len(behind)
            for form in (said, said.rstrip(), said.lstrip(), said.strip()):
                if text.endswith(form, 0, end):
                    return end - len(form), end
        raise _lost(messages, turn)

    def _earlier_answers(
        self, messages: Messages, text: str, places: dict[int, Span]
    ) -> list[Span]:
        """The answers before the last, each from where its generation would have started."""
        found = []
        ends = sorted(end for _, end in places.values())
        for turn, message in enumerate(messages[:-1]):
            if message["role"] != "assistant":
                continue
            start, end = places[turn]
            before = max((e for e in ends if e <= start and e != end), default=0)
            opening = self._opening(tuple(message["role"] for message in messages[:turn]))
            if text.startswith(opening, before) and before + len(opening) <= start:
                start = before + len(opening)
            elif not opening.startswith(text[before:start]):
                raise UnwritableError(
                    "the tokenizer's chat template opens an earlier answer differently from how "
                    "it asks for one, so the answer's boundary is not defined"
                )
            marked = text.startswith(self.end_mark, end)
            found.append((start, end + len(self.end_mark) if marked else end))
        return found

    def _opening(self, roles: tuple[str, ...]) -> str:
        """What stands behind the last turn where the template asks for an answer."""
        if roles not in self._openings:
            asked = self.write(_stand_ins(roles), asking=True)
            self._openings[roles] = asked.rpartition(STAND_IN_END)[2]
        return self._openings[roles]

    def _skeleton(self, roles: tuple[str, ...], asking: bool) -> _Skeleton | None:
        if (roles, asking) not in self._skeletons:
            self._skeletons[roles, asking] = self._look(roles, asking)
        return self._skeletons[roles, asking]

    def _look(self, roles: tuple[str, ...], asking: bool) -> _Skeleton | None:
        try:
            left = self.write(_stand_ins(roles, PAD), asking=asking)
        except UnwritableError:
            return None
        marks = {_stand_in(turn): turn for turn in range(len(roles))}
        slots = []
        for _, mark in sorted((left.index(mark), mark) for mark in marks if left.count(mark) == 1):
            before, _, left = left.partition(mark)
            kept = before.endswith(PAD), left.startswith(PAD)
            slots.append((before.removesuffix(PAD), marks[mark], *kept))
            left = left.removeprefix(PAD)
        return _Skeleton(tuple(slots), left)


def _stand_in(turn: int) -> str:
    """A word that no text and no template holds: its ends are characters for private use."""
    return f"\ue0a3{turn}{STAND_IN_END}"


def _stand_ins(roles: Sequence[str], around: str = "") -> Messages:
    return [
        {"role": role, "content": f"{around}{_stand_in(turn)}{around}"}
        for turn, role in enumerate(roles)
    ]


def _lost(messages: Messages, turn: int) -> UnwritableError:
    said = messages[turn]["content"]
    shown = said if len(said) <= 40 else f"{said[:40]}…"
    return UnwritableError(
        f"the tokenizer's chat template leaves out or rewrites what the "
        f"{messages[turn]['role']} says in turn {turn + 1} ({shown!r})"
    )
