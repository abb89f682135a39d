"""Text to tokens, where text stays text and no token holds characters of two pieces."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spice.data.chat_template import Span

Tokens = list[int]


class Marks:
    """The tokens that only a template may write, and how they are told from the same in a text.

    The template's own are spelled in letters that nobody writes, for a copy of the tokenizer that
    knows them by this spelling alone: to it, a text's ``</s>`` is five characters. All else, such
    as white space that a mark swallows, is as the tokenizer has it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str = "") -> None:
        """Every special token, and the added tokens that a template has ``written`` somewhere."""
        added = tokenizer.added_tokens_decoder.values()
        self.names = sorted(
            {str(token) for token in added if token.special or str(token) in written} - {""},
            key=lambda name: (-len(name), name),
        )
        self._tokenizer = tokenizer
        self._pattern = re.compile("|".join(map(re.escape, self.names)) or r"(?!)")
        self._spelling = {name: _spelling(name) for name in self.names}

    def within(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts holds a mark."""
        return any(self._pattern.search(text) for text in texts)

    def spell(self, text: str, said: Sequence[Span], cuts: Sequence[int]) -> tuple[str, list[int]]:
        """The text with every mark outside of ``said`` spelled anew, and where ``cuts`` are now."""
        growth = [0] * len(cuts)
        parts, at = [], 0
        for start, end in [*said, (len(text), len(text))]:
            for mark in self._pattern.finditer(text, at, start):
                spelled = self._spelling[mark[0]]
                parts += [text[at : mark.start()], spelled]
                at = mark.end()
                for i, cut in enumerate(cuts):
                    growth[i] += (len(spelled) - len(mark[0])) * (mark.start() < cut)
            parts.append(text[at:end])
            at = end
        return "".join(parts), [cut + more for cut, more in zip(cuts, growth, strict=True)]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The copy that knows marks by their spelling; token for token like the original."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        state = json.loads(self._tokenizer.backend_tokenizer.to_str())
        state["truncation"] = state["padding"] = None
        for token in state["added_tokens"]:
            if token["content"] in self._spelling:
                token.update(content=self._spelling[token["content"]], normalized=False)
        _respell(state["model"], self._spelling)
        copy = Tokenizer.from_str(json.dumps(state))
        return PreTrainedTokenizerFast(tokenizer_object=copy, clean_up_tokenization_spaces=False)


def _spelling(name: str) -> str:
    return f"\ue0a5{hashlib.sha256(name.encode()).hexdigest()[:16]}\ue0a6"


def _respell(model: dict[str, Any], spelling: dict[str, str]) -> None:
    """Rename words of a model, in place, so that no text leads to them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {spelling.get(word, word): i for word, i in vocabulary.items()}
    else:  # Unigram's, with scores
        model["vocab"] = [[spelling.get(word, word), score] for word, score in vocabulary]
    if model.get("unk_token"):
        model["unk_token"] = spelling.get(model["unk_token"], model["unk_token"])
    if model.get("merges"):
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        names = set(spelling)
        model["merges"] = [pair for pair in pairs if not names & {*pair, "".join(pair)}]


class Pieces:
    """Tokenise texts in pieces: each one's tokens are those that follow the piece before it.

    No token holds characters of two pieces, even where the tokenizer would merge across.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, split_special: bool) -> None:
        self.tokenizer = tokenizer
        self.split_special = split_special

    def of(self, texts: Sequence[tuple[str, Sequence[int]]]) -> list[list[Tokens]]:
        """The tokens of each piece of each text, cut at the given ends, the last of which is its.

        No piece but the first may be empty.
        """
        pieces = [
            [text[a:b] for a, b in zip([0, *ends], ends, strict=False)] for text, ends in texts
        ]
        heads = self.tokenise([piece for each in pieces for piece in each[: max(1, len(each) - 1)]])
        pairs = [(a, b) for each in pieces for a, b in itertools.pairwise(each)]
        both = self.tokenise([a + b for a, b in pairs], offsets=True)
        follow = iter(zip(pairs, both["input_ids"], both["offset_mapping"], strict=True))
        head = iter(heads["input_ids"])
        found = []
        for each in pieces:
            first = next(head)
            tokens = [first]
            for number in range(1, len(each)):
                (before, piece), ids, offsets = next(follow)
                behind = _behind(first, len(before), ids, offsets)
                tokens.append(self.continuation(piece) if behind is None else behind)
                if number < len(each) - 1:
                    first = next(head)
            found.append(tokens)
        return found

    def whole(self, text: str) -> Tokens:
        """The tokens of one text."""
        return list(self.tokenise([text])["input_ids"][0])

    def continuation(self, text: str) -> Tokens:
        """Tokens of ``text`` as they follow other text, without a word-start mark in front.

        Some tokenizers put a space before the first word of whatever they are given; behind an
        anchor that does not merge with the text there is no such first word.
        """
        for anchor in ("\n", "0", "a", "."):
            tokens = self.tokenise([anchor, anchor + text], offsets=True)
            head, both = tokens["input_ids"]
            ids = _behind(head, len(anchor), both, tokens["offset_mapping"][1])
            if ids is not None:
                return ids
        return self.whole(text)

    def tokenise(self, texts: list[str], offsets: bool = False) -> Any:
        """The tokenizer's own answer, without what it would add."""
        if not texts:
            return {"input_ids": [], "offset_mapping": []}
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=offsets,
            split_special_tokens=self.split_special,
            verbose=False,
        )


def _behind(
    head: Tokens, boundary: int, ids: Tokens, offsets: list[tuple[int, int]]
) -> Tokens | None:
    """The tokens that follow ``head``, which are those of the first ``boundary`` characters.

    None if a token straddles the boundary. Its offsets alone would not tell: a tokenizer may leave
    the space out that a word begins with. Nor would the tokens: two different words may be unknown.
    """
    n = len(head)
    if ids[:n] != head or n == len(ids):
        return None
    straddled = offsets[n][0] < boundary or (n > 0 and offsets[n - 1][1] > boundary)
    return None if straddled else ids[n:]
