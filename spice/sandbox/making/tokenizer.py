"""The sandbox's two tokenizers.

``words``: the frequent words of the language as one token each, with the space before them, and
all printable ASCII characters besides (letters and digits also with a space before), so that
``decode(encode(text)) == text`` for any such text.
``pieces``: a byte-level BPE without a beginning token, as the Qwen family has.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from spice.sandbox.making.corpus import PROMPT_HEAD, RESPONSE_HEAD, documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

WORDS, PIECES = 226, 384
SAMPLE = 20_000
HEADINGS = (PROMPT_HEAD, RESPONSE_HEAD)
SPLIT = r"\n\n### Response:\n|### Instruction:\n|\n +| ?[A-Za-z]+| ?[0-9+*=-]|[\s\S]"
SPACED = string.ascii_letters + string.digits + "+*=-"


def words() -> PreTrainedTokenizerFast:
    """The LLaMA-like family's tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    characters = ["\n", *map(chr, range(32, 127))]
    spaced = [f" {character}" for character in SPACED]
    vocabulary = [*special, *characters, *spaced, *HEADINGS, *_frequent_words(WORDS)]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[(" ", character) for character in SPACED],
        unk_token="<unk>",
        ignore_merges=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _wrap(tokenizer, bos="<s>")


def _frequent_words(count: int) -> list[str]:
    tally: Counter[str] = Counter()
    for document in islice(documents(Random(0)), SAMPLE):
        for text in (document.prompt, document.response):
            tally.update(piece for piece in re.findall(SPLIT, text) if len(piece.strip(" ")) > 1)
    for heading in HEADINGS:
        tally.pop(heading, None)
    return [word for word, _ in sorted(tally.items(), key=lambda item: (-item[1], item[0]))[:count]]


def pieces() -> PreTrainedTokenizerFast:
    """The Qwen2-like model's tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (d.prompt + d.response for d in islice(documents(Random(0)), SAMPLE))
    tokenizer.train_from_iterator(texts, trainer)
    return _wrap(tokenizer, bos=None)


def _wrap(tokenizer: Tokenizer, bos: str | None) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    names = {"eos_token": "</s>", "pad_token": "<pad>", "clean_up_tokenization_spaces": False}
    if bos:
        names |= {"bos_token": bos, "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, **names)
