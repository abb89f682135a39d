"""Tiny random Llama models and tokenizers for tests: no files, no network, milliseconds."""

from __future__ import annotations

import string

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spice.data.rendering import Renderer
from spice.data.template import Template

PUBLISHED = {  # the template's options as the configuration has them
    "supervise": "all",
    "system_turn": "keep",
    "date": "2024-07-26",
    "on_bad_row": "error",
}
SPECIAL = ["<unk>", "<s>", "</s>"]
LETTERS = list(string.ascii_letters + string.digits + string.punctuation + " \n")


def letters(*, bos: bool = True, writes_bos: bool = False) -> PreTrainedTokenizerFast:
    """One token per character; ``writes_bos`` puts bos in front by a post-processor."""
    return _wrap(_characters(LETTERS), bos, writes_bos)


def word_starts() -> PreTrainedTokenizerFast:
    """One token per character behind a word-start mark, as sentencepiece models have it."""
    tokenizer = _characters([*[c for c in LETTERS if c != " "], "▁"])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrap(tokenizer, bos=True, writes_bos=True)


def _characters(alphabet: list[str]) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _wrap(tokenizer: Tokenizer, bos: bool, writes_bos: bool) -> PreTrainedTokenizerFast:
    if writes_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def llama(context: int = 128, seed: int = 0) -> LlamaForCausalLM:
    """A random model whose predictions are far from uniform."""
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(LETTERS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def renderer(tokenizer: PreTrainedTokenizerFast, context: int = 128) -> Renderer:
    template = Template(
        mode="plain",
        system="{content}\n",
        user="Q: {content}\n",
        answer="A: ",
        earlier_answer="{content}\n",
        max_tokens=context,
        **PUBLISHED,
    )
    return Renderer(tokenizer, template, context)
