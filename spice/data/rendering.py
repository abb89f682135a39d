"""Rows to text to tokens: the one renderer behind gradients, fine-tuning and chat-style scoring.

A row is rendered as *prompt* + *response* + *end token*, and only the last two are supervised.
The boundary is exact for every tokenizer: prompt tokens are those that generation starts from, and
no token holds characters from both sides, even where the tokenizer would merge across.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from spice.errors import InputError
from spice.records import Row
from spice.values import RefusedError, Several, Text, component

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
CHUNK = 1024  # rows handed to the tokenizer at once, so that it can use its threads


@component
class Template:
    """How a conversation becomes text.

    ``mode`` ``chat`` takes the tokenizer's own chat template, ``plain`` the four pieces given
    here, ``auto`` the first where there is one. Each piece but ``answer`` holds ``{content}``;
    ``answer`` opens the response. ``max_tokens`` bounds a row; a shorter context of the model
    bounds it further.

    Raises:
        RefusedError: an unknown mode, a piece without ``{content}``, or too few tokens for a row.
    """

    mode: Literal["auto", "chat", "plain"]
    system: Text
    user: Text
    answer: Text
    earlier_answer: Text
    max_tokens: Several

    def __post_init__(self) -> None:
        for name in ("system", "user", "earlier_answer"):
            if "{content}" not in getattr(self, name):
                raise RefusedError(name, getattr(self, name), "must contain {content}")


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenised row: ``ids`` t tokens, supervised from ``start`` on."""

    ids: list[int]
    start: int
    truncated: bool = False

    @property
    def supervised(self) -> int:
        """The number of supervised tokens."""
        return len(self.ids) - self.start


@dataclass(frozen=True)
class MaskAudit:
    """What the renderer did to a pool; printed and saved with each run."""

    rows: int
    tokens: int
    supervised_tokens: int
    truncated_rows: int
    unsupervised_rows: int
    unsupervised_ids: list[str]
    exact_duplicates: int
    template: str
    max_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return dataclasses.asdict(self)


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
        self._chat_ending = self._chat_end = ""
        if self.chat:
            self._learn_chat_ending()
        distinct = tokenizer.bos_token_id not in (None, tokenizer.eos_token_id)
        #: whether a tokenised prompt starts with bos (a chat template writes its own)
        self.add_bos = distinct and not self.chat

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the tokens of a row besides the tokenizer's files."""
        return {
            **dataclasses.asdict(self.template),
            "max_tokens": self.max_tokens,
            "chat_template": self.tokenizer.chat_template if self.chat else None,
        }

    def prompt_text(self, messages: Messages) -> str:
        """Everything up to where the assistant's answer begins."""
        if self.chat:
            return self._apply_chat_template(messages, add_generation_prompt=True)
        return "".join(self._piece(m) for m in messages) + self.template.answer

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens that generation starts from."""
        return self._bos() + self._tokenise([text])["input_ids"][0]

    def opening_ids(self) -> list[int]:
        """The tokens that open any response, without a prompt before them."""
        if not self.chat:
            return self.prompt_ids(self.template.answer)
        turn: Messages = [{"role": "user", "content": "?"}]
        asked = self._apply_chat_template(turn, add_generation_prompt=True)
        return self.prompt_ids(asked.removeprefix(self._apply_chat_template(turn)))

    def encode(self, rows: Sequence[Row]) -> list[Example]:
        """Tokenise rows, in their order."""
        chunks = (rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK))
        return [example for chunk in chunks for example in self._encode_chunk(chunk)]

    def _encode_chunk(self, rows: Sequence[Row]) -> Iterable[Example]:
        texts = [self._split_text(row.messages(), row.response) for row in rows]
        prompts = self._tokenise([prompt for prompt, _ in texts])["input_ids"]
        whole = self._tokenise([prompt + tail for prompt, tail in texts], offsets=True)
        for i, row in enumerate(rows):
            prompt, tail = texts[i]
            ids = _behind(
                prompts[i], len(prompt), whole["input_ids"][i], whole["offset_mapping"][i]
            )
            response = self.continuation(tail) if ids is None else ids
            if not self._chat_end:
                response = [*response, self.end_id]
            example = self._fit(self._bos() + prompts[i], response)
            yield self._drop_history(row, response, example) if example.truncated else example

    def _split_text(self, messages: Messages, response: str) -> tuple[str, str]:
        """The prompt's text, and what the template writes from the response on.

        Of a chat template's own ending, what stands behind the end token is left out.
        """
        prompt = self.prompt_text(messages)
        if not self.chat:
            return prompt, response
        whole = self._apply_chat_template([*messages, {"role": "assistant", "content": response}])
        if not whole.startswith(prompt):
            raise InputError(
                "the tokenizer's chat template writes the prompt differently once it is answered, "
                "so the response's boundary is not defined; use template=plain"
            )
        if not whole.endswith(self._chat_ending):
            raise InputError(
                "the tokenizer's chat template does not end all answers in the same way, "
                "so the end token is not defined; use template=plain"
            )
        return prompt, whole[len(prompt) :].removesuffix(self._chat_ending) + self._chat_end

    def _fit(self, prompt: list[int], response: list[int]) -> Example:
        """Cut the response's end, never its beginning, and never the prompt.

        A prompt that leaves no room is kept to its first tokens and supervises nothing.
        """
        ids = prompt + response
        cut = len(ids) > self.max_tokens
        return Example(ids[: self.max_tokens], min(len(prompt), self.max_tokens), truncated=cut)

    def _drop_history(self, row: Row, response: list[int], example: Example) -> Example:
        """Make room by leaving out the oldest turns first, before any of the response is cut."""
        for dropped in range(1, len(row.history) + 1):
            shorter = dataclasses.replace(row, history=row.history[dropped:])
            prompt = self.prompt_ids(self.prompt_text(shorter.messages()))
            example = self._fit(prompt, response)
            if not example.truncated:
                break
        return dataclasses.replace(example, truncated=True)

    def continuation(self, text: str) -> list[int]:
        """Tokens of ``text`` as they follow other text, without a word-start mark in front.

        Some tokenizers put a space before the first word of whatever they are given; behind an
        anchor that does not merge with the text there is no such first word.
        """
        for anchor in ("\n", "0", "a", "."):
            tokens = self._tokenise([anchor, anchor + text], offsets=True)
            head, both = tokens["input_ids"]
            ids = _behind(head, len(anchor), both, tokens["offset_mapping"][1])
            if ids is not None:
                return ids
        return self._tokenise([text])["input_ids"][0]

    def _apply_chat_template(self, messages: Messages, **options: Any) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except Exception as error:  # the template is a program of its own, and may raise anything
            turns = ", ".join(message["role"] for message in messages)
            raise InputError(
                f"the tokenizer's chat template cannot write a conversation of {turns}: {error}; "
                "use template=plain"
            ) from error

    def _learn_chat_ending(self) -> None:
        """See what the chat template writes behind an answer, and which end token is in it."""
        answer = "(the answer)"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        _, found, ending = self._apply_chat_template(turns).rpartition(answer)
        if not found:
            raise InputError("the tokenizer's chat template leaves answers out; use template=plain")
        self._chat_ending = ending
        tokens = self.tokenizer.added_tokens_decoder.items()
        marks = {str(t): i for i, t in tokens if t.special and str(t) in ending}
        if marks:
            first = min(marks, key=ending.index)
            self.end_id = marks[first]
            self._chat_end = ending[: ending.index(first) + len(first)]

    def _bos(self) -> list[int]:
        return [self.tokenizer.bos_token_id] if self.add_bos else []

    def _tokenise(self, texts: list[str], offsets: bool = False) -> Any:
        # In the plain template a "</s>" in somebody's text is text, not the end token.
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=offsets,
            split_special_tokens=not self.chat,
            verbose=False,
        )

    def _piece(self, message: dict[str, str]) -> str:
        pieces = {
            "system": self.template.system,
            "user": self.template.user,
            "assistant": self.template.answer + self.template.earlier_answer,
        }
        return pieces[message["role"]].replace("{content}", message["content"])


def _behind(
    head: list[int], boundary: int, ids: list[int], offsets: list[tuple[int, int]]
) -> list[int] | None:
    """The tokens that follow ``head``, which are those of the first ``boundary`` characters.

    None if a token straddles the boundary. Its offsets alone would not tell: a tokenizer may leave
    the space out that a word begins with. Nor would the tokens: two different words may be unknown.
    """
    n = len(head)
    if ids[:n] != head or n == len(ids):
        return None
    straddled = offsets[n][0] < boundary or (n > 0 and offsets[n - 1][1] > boundary)
    return None if straddled else ids[n:]


def audit(rows: Sequence[Row], examples: Sequence[Example], renderer: Renderer) -> MaskAudit:
    """Count what a run will learn from, and what it will not."""
    empty = [row.id for row, example in zip(rows, examples, strict=True) if not example.supervised]
    return MaskAudit(
        rows=len(rows),
        tokens=sum(len(e.ids) for e in examples),
        supervised_tokens=sum(e.supervised for e in examples),
        truncated_rows=sum(e.truncated for e in examples),
        unsupervised_rows=len(empty),
        unsupervised_ids=empty,
        exact_duplicates=sum("#" in row.id for row in rows),
        template="chat" if renderer.chat else "plain",
        max_tokens=renderer.max_tokens,
    )


def _uses_chat_template(tokenizer: PreTrainedTokenizerBase, mode: str) -> bool:
    has_one = bool(tokenizer.chat_template)
    if mode == "chat" and not has_one:
        raise InputError("template.mode=chat, but the tokenizer has no chat template; use auto")
    return has_one and mode != "plain"


def eligible_rows(examples: Sequence[Example]) -> list[int]:
    """Rows with something to learn from."""
    return [i for i, example in enumerate(examples) if example.supervised]
