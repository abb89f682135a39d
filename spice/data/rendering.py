"""Rows to text to tokens: the one renderer behind gradients, fine-tuning and chat-style scoring.

A row is a conversation. Its answers, each with its end mark, are supervised; all else is not.
The boundaries are exact for every tokenizer: the tokens before an answer are those that generation
starts from, and no token holds characters from both sides, even where the tokenizer would merge
across.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spice.data.chat_template import ChatTemplate, Messages, Script, Span, UnwritableError
from spice.data.template import Template
from spice.data.tokens import Marks, Pieces
from spice.errors import InputError
from spice.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 1024  # rows handed to the tokenizer at once, so that it can use its threads
NAMED = 5  # rows that an error shows


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenised row: ``ids`` t tokens, supervised from ``start`` on but for ``gaps``.

    A gap, from and to, is what stands between two answers, or behind the last that is supervised.
    """

    ids: list[int]
    start: int
    truncated: bool = False
    gaps: tuple[Span, ...] = ()

    @property
    def supervised(self) -> int:
        """The number of supervised tokens."""
        return len(self.ids) - self.start - sum(end - start for start, end in self.gaps)

    @property
    def spans(self) -> list[Span]:
        """The stretches of supervised tokens, from and to; one for each answer."""
        edges = [self.start, *(edge for gap in self.gaps for edge in gap), len(self.ids)]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def cut(self, tokens: int) -> Example:
        """The first ``tokens`` of it, as something truncated."""
        gaps = tuple((start, min(end, tokens)) for start, end in self.gaps if start < tokens)
        return Example(self.ids[:tokens], min(self.start, tokens), True, gaps)

    def last_answer(self) -> Example:
        """The same up to the end of the last supervised answer, which alone is supervised."""
        if not self.gaps:
            return self
        start, end = self.spans[-1]
        return Example(self.ids[:end], start, self.truncated)


class Renderer:
    """Render rows for one tokenizer.

    ``max_tokens`` is the smaller of the template's and the model's context, if that is given.

    Raises:
        InputError: the tokenizer has no end token, lacks the chat template that is asked for, or
            has one that leaves answers out.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: Template, context: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.max_tokens = min(template.max_tokens, context or template.max_tokens)
        self.chat = _uses_chat_template(tokenizer, template.mode)
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end token (eos_token), so no response can end")
        #: the token that ends every response: the chat template's own, else eos
        self.end_id = int(tokenizer.eos_token_id)
        self._chat = ChatTemplate(tokenizer, template.day()) if self.chat else None
        if self._chat and self._chat.end_id is not None:
            self.end_id = self._chat.end_id
        distinct = tokenizer.bos_token_id not in (None, tokenizer.eos_token_id)
        #: whether a tokenised prompt starts with bos (a chat template writes its own)
        self.add_bos = distinct and not self.chat
        self._pieces = Pieces(tokenizer, split_special=not self.chat)
        self._marks = Marks(tokenizer, self._chat.written() if self._chat else "")
        self._spelled: dict[str, str] = {}  # prompts with marks in what somebody says

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the tokens of a row besides the tokenizer's files."""
        template = dataclasses.asdict(self.template)
        del template["on_bad_row"]  # a lost row has no tokens either way
        return {
            **template,
            "max_tokens": self.max_tokens,
            "chat_template": self.tokenizer.chat_template if self.chat else None,
        }

    def taught(self, row: Row) -> list[bool]:
        """Of each answer, the response last, whether it is to be learnt."""
        return row.learnt(last_alone=self.template.supervise == "last")

    def prompt_text(self, messages: Messages) -> str:
        """Everything up to where the assistant's answer begins."""
        text, spelled = self._prompt(messages)
        if spelled is not None:
            self._spelled[text] = spelled
        return text

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens that generation starts from: of a :meth:`prompt_text`, or one begun upon."""
        for known, spelled in self._spelled.items():
            if text.startswith(known):
                return self._ids(text, spelled + text[len(known) :])
        return self._ids(text, text if self._chat is None and self._marks.within([text]) else None)

    def asked_ids(self, messages: Messages) -> list[int]:
        """The tokens that generation starts from, of a conversation that waits for an answer."""
        return self._ids(*self._prompt(messages))

    def opening_ids(self) -> list[int]:
        """The tokens that open any response, without a prompt before them."""
        if self._chat is None:
            return self.prompt_ids(self.template.answer)
        turn: Messages = [{"role": "user", "content": "?"}]
        asked = self._chat.write(turn, asking=True)
        return self.prompt_ids(asked.removeprefix(self._chat.write(turn)))

    def continuation(self, text: str) -> list[int]:
        """Tokens of ``text`` as they follow other text, without a word-start mark in front."""
        return self._pieces.continuation(text)

    def encode(self, rows: Sequence[Row]) -> list[Example]:
        """Tokenise rows, in their order.

        Raises:
            InputError: the chat template does not write some of them in full.
        """
        examples, lost = self.attempt(rows)
        if lost:
            raise InputError(refusal(rows, lost))
        return examples

    def attempt(self, rows: Sequence[Row]) -> tuple[list[Example], dict[int, str]]:
        """Tokenise rows as far as they can be written; also which cannot, and why.

        In the place of those stands an example without tokens.
        """
        examples, lost = [Example([], 0)] * len(rows), {}
        for start in range(0, len(rows), CHUNK):
            cuts: dict[int, _Cut] = {}
            for i in range(start, min(start + CHUNK, len(rows))):
                try:
                    cuts[i] = self._cut(rows[i])
                except UnwritableError as error:
                    lost[i] = error.why
            for i, example in zip(cuts, self._examples(list(cuts.values())), strict=True):
                try:
                    examples[i] = self._fit(rows[i], example)
                except UnwritableError as error:
                    lost[i] = error.why
        return examples, lost

    def _fit(self, row: Row, example: Example) -> Example:
        """Make room for an answer that is learnt: the turns behind it go first, then the oldest.

        Only then is its end cut, never its beginning, and never the prompt: one that leaves no
        room is kept to its first tokens and supervises nothing.
        """
        if len(example.ids) <= self.max_tokens:
            return example
        row = row.up_to_last_taught()

        def without(turns: int) -> Example:
            rest = dataclasses.replace(row, history=row.history[turns:], taught=row.taught[turns:])
            return self._examples([self._cut(rest)])[0]

        turns = bisect_left(
            range(len(row.history)),
            True,
            key=lambda turns: len(without(turns).ids) <= self.max_tokens,
        )
        return without(turns).cut(self.max_tokens)

    def _cut(self, row: Row) -> _Cut:
        messages = self._turns(row.messages())
        if self._chat is None:
            script = self.template.plain_script(messages, row.response)
        else:
            answer = {"role": "assistant", "content": row.response}
            script = self._chat.script([*messages, answer])
        return _Cut.of(script, self.taught(row))

    def _examples(self, cuts: Sequence[_Cut]) -> list[Example]:
        """What is learnt of texts that are cut into pieces, tokenised together."""
        marked = [self._marks.within(cut.text[a:b] for a, b in cut.said) for cut in cuts]
        plain = [(c.text, c.ends) for c, m in zip(cuts, marked, strict=True) if not m]
        spelled = [
            self._marks.spell(c.text, c.said, c.ends)
            for c, m in zip(cuts, marked, strict=True)
            if m
        ]
        tokens = {False: iter(self._pieces.of(plain))}
        if spelled:
            tokens[True] = iter(self._guarded.of(spelled))
        end = [] if self._chat and self._chat.end_mark else [self.end_id]
        return [
            cut.example(self._bos(), next(tokens[m]), end)
            for cut, m in zip(cuts, marked, strict=True)
        ]

    def _turns(self, messages: Messages) -> Messages:
        """The conversation as the template gets it."""
        roles = [message["role"] for message in messages[:2]]
        if self.template.system_turn == "keep" or roles != ["system", "user"]:
            return messages
        first = "\n\n".join(message["content"] for message in messages[:2])
        return [{"role": "user", "content": first}, *messages[2:]]

    def _prompt(self, messages: Messages) -> tuple[str, str | None]:
        """A prompt's text, and how it is spelled where somebody says a mark in it."""
        messages = self._turns(messages)
        if self._chat is None:
            text = self.template.plain_prompt(messages)
            return text, text if self._marks.within([text]) else None
        text = self._chat.write(messages, asking=True)
        if not self._marks.within(message["content"] for message in messages):
            return text, None
        try:
            said = [span for span, _ in self._chat.locate(messages, text, asking=True)]
        except UnwritableError:  # where it says so, it is not known what is the template's
            return text, None
        return text, self._marks.spell(text, said, [])[0]

    def _ids(self, text: str, spelled: str | None) -> list[int]:
        known = self._pieces.whole(text) if spelled is None else self._guarded.whole(spelled)
        return self._bos() + known

    @cached_property
    def _guarded(self) -> Pieces:
        """For the rare texts that hold marks: the copy of the tokenizer takes a while to make."""
        return Pieces(self._marks.tokenizer, split_special=False)

    def _bos(self) -> list[int]:
        return [self.tokenizer.bos_token_id] if self.add_bos else []


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text in pieces that end at ``ends``, and of each whether it is learnt."""

    text: str
    said: tuple[Span, ...]
    ends: list[int]
    learnt: list[bool]
    ends_taught: bool

    @classmethod
    def of(cls, script: Script, taught: Sequence[bool]) -> _Cut:
        """Cut at the edges of the answers that are taught; no piece but the first is empty."""
        ends: list[int] = []
        learnt: list[bool] = []
        at = 0
        for (start, end), learn in zip(script.answers, taught, strict=True):
            if learn:
                if start > at or not ends:
                    ends.append(start)
                    learnt.append(False)
                if end > start:
                    ends.append(end)
                    learnt.append(True)
                at = end
        if at < len(script.text) or not ends:
            ends.append(len(script.text))
            learnt.append(False)
        return cls(script.text, script.said, ends, learnt, taught[-1])

    def example(self, bos: list[int], pieces: Sequence[list[int]], end: list[int]) -> Example:
        """The pieces' tokens behind ``bos``, with ``end`` as a part of the last answer."""
        ids, spans = list(bos), []
        for tokens, learn in zip(pieces, self.learnt, strict=True):
            spans += [(len(ids), len(ids) + len(tokens))] * (learn and bool(tokens))
            ids += tokens
        if end and self.ends_taught:
            spans.append((len(ids), len(ids) + len(end)))
        ids += end
        starts, ends = [start for start, _ in spans] + [len(ids)], [end for _, end in spans]
        gaps = tuple((a, b) for a, b in zip(ends, starts[1:], strict=True) if a < b)
        return Example(ids, starts[0], gaps=gaps)


def refusal(rows: Sequence[Row], lost: dict[int, str]) -> str:
    """Why rows are refused, and the ways out."""
    few = "; ".join(f"row {i + 1} ({rows[i].id}): {why}" for i, why in list(lost.items())[:NAMED])
    more = "; …" if len(lost) > NAMED else ""
    system = ", template.system_turn=user moves what a system turn says"
    return (
        f"{len(lost):,} of {len(rows):,} rows cannot be written in full: {few}{more}. "
        f"Mend them, or use template=plain, which writes all"
        f"{system if any(rows[i].system for i in lost) else ''}; "
        "data.on_bad_row=skip leaves rows of the pool out"
    )


def _uses_chat_template(tokenizer: PreTrainedTokenizerBase, mode: str) -> bool:
    has_one = bool(tokenizer.chat_template)
    if mode == "chat" and not has_one:
        raise InputError("template.mode=chat, but the tokenizer has no chat template; use auto")
    return has_one and mode != "plain"
