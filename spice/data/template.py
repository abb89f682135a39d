"""How a conversation becomes text: the options."""

from __future__ import annotations

import datetime
from typing import Literal

from spice.data.chat_template import Messages, Script
from spice.values import RefusedError, Several, Text, component


@component
class Template:
    """How a conversation becomes text, and what of it is supervised.

    ``mode`` ``chat`` takes the tokenizer's own chat template, ``plain`` the four pieces given
    here, ``auto`` the first where there is one. Each piece but ``answer`` holds ``{content}``;
    ``answer`` opens an answer. ``max_tokens`` bounds a row; a shorter context of the model
    bounds it further. ``supervise`` ``all`` takes every answer that a row does not exempt,
    ``last`` no other than a conversation's last. ``system_turn`` ``user`` puts what a system turn
    says in front of the first user turn. ``date`` is the day that a chat template is told.
    Rows that a chat template does not write in full are refused or left out, by ``on_bad_row``.

    Raises:
        RefusedError: an unknown choice, a piece without ``{content}``, too few tokens for a row, or
            a ``date`` that is none.
    """

    mode: Literal["auto", "chat", "plain"]
    system: Text
    user: Text
    answer: Text
    earlier_answer: Text
    max_tokens: Several
    supervise: Literal["all", "last"]
    system_turn: Literal["keep", "user"]
    date: Text
    on_bad_row: Literal["error", "skip"]

    def __post_init__(self) -> None:
        for name in ("system", "user", "earlier_answer"):
            if "{content}" not in getattr(self, name):
                raise RefusedError(name, getattr(self, name), "must contain {content}")
        try:
            self.day()
        except ValueError:
            raise RefusedError("date", self.date, "must be a day as 2024-07-26") from None

    def day(self) -> datetime.date:
        """The ``date``."""
        return datetime.date.fromisoformat(self.date)

    def plain_prompt(self, messages: Messages) -> str:
        """The plain pieces up to where an answer begins."""
        return "".join(map(self._piece, messages)) + self.answer

    def plain_script(self, messages: Messages, response: str) -> Script:
        """The plain pieces with the answer to them.

        An earlier answer ends with its text: the pieces know no end mark but the last.
        """
        answers, at = [], 0
        for message in messages:
            if message["role"] == "assistant":
                start = at + (self.answer + self.earlier_answer).index("{content}")
                answers.append((start, start + len(message["content"])))
            at += len(self._piece(message))
        text = self.plain_prompt(messages) + response
        answers.append((len(text) - len(response), len(text)))
        return Script(text, ((0, len(text)),), tuple(answers))

    def _piece(self, message: dict[str, str]) -> str:
        pieces = {
            "system": self.system,
            "user": self.user,
            "assistant": self.answer + self.earlier_answer,
        }
        return pieces[message["role"]].replace("{content}", message["content"])
