"""One renderer: exact boundaries for every tokenizer, one end token, truncation that is counted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import PUBLISHED
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from spice.data.audit import audit
from spice.data.identity import identify
from spice.data.rendering import CHUNK, Example, Renderer
from spice.data.template import Template
from spice.errors import InputError
from spice.records import Row

CONF = Path(__file__).parents[2] / "conf"
TEMPLATE = Template(
    mode="auto",
    system="{content}\n\n",
    user="Q: {content}\n",
    answer="Answer: ",
    earlier_answer="{content}\n",
    max_tokens=400,
    **PUBLISHED,
)


def row(instruction: str = "Q", response: str = "A", **rest: Any) -> Row:
    return Row("", instruction, rest.pop("input", ""), response, "s", **rest)


def encode_one(renderer: Renderer, subject: Row) -> Example:
    (example,) = renderer.encode([subject])
    return example


# -- tokenizers that merge across the boundary ------------------------------------------------

BYTES = [f"<0x{i:02X}>" for i in range(256)]


def bpe(special: list[str], alphabet: list[str], space: str, line_end: str, **options: Any) -> Any:
    """Tokens that hold the end of a prompt and the beginning of a response, such as `` hello``."""
    hello = [("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o")]
    across = [(space, "hello"), (line_end, "hello"), (space, "1"), (line_end, line_end)]
    merges = [*hello, *across, (space, space), ("1", "2")]
    tokens = [*special, *alphabet, *(a + b for a, b in merges)]
    return models.BPE({token: i for i, token in enumerate(tokens)}, merges, **options)


def wrap(backend: Tokenizer, bos: str | None = None) -> PreTrainedTokenizerFast:
    names = {"bos_token": bos} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
        **names,
    )


def byte_level(trim_offsets: bool, add_prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2's and Qwen's kind. ``trim_offsets`` hides the space that a token begins with."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(bpe(["</s>"], alphabet, "Ġ", "Ċ"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space, use_regex=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    backend.decoder = decoders.ByteLevel()
    return wrap(backend)


def sentencepiece(legacy: bool = False, scheme: str = "always") -> PreTrainedTokenizerFast:
    """LLaMA's kind: a word-start mark in front of the text, bytes for unknown characters."""
    known = [*BYTES, "▁", "\n", *"abcdefghijklmnopqrstuvwxyzAQ:.#0123456789"]
    options = {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    backend = Tokenizer(bpe(["<unk>", "<s>", "</s>"], known, "▁", "\n", **options))
    if legacy:
        marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(marks)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([] if scheme == "never" else [decoders.Strip(" ", 1, 0)]),
        ]
    )
    return wrap(backend, bos="<s>")


def composing() -> PreTrainedTokenizerFast:
    """Byte-level behind a normalizer: an accent at a response's start joins the prompt's letter."""
    tokenizer = byte_level(trim_offsets=False)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


MERGING: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": lambda: byte_level(trim_offsets=False),
    "byte-level, trimmed offsets": lambda: byte_level(trim_offsets=True),
    "byte-level, space in front": lambda: byte_level(trim_offsets=True, add_prefix_space=True),
    "metaspace always": lambda: sentencepiece(scheme="always"),
    "metaspace first": lambda: sentencepiece(scheme="first"),
    "metaspace never": lambda: sentencepiece(scheme="never"),
    "sentencepiece, legacy": lambda: sentencepiece(legacy=True),
    "composing accents": composing,
}


@cache
def tokenizer_named(name: str) -> PreTrainedTokenizerFast:
    return MERGING[name]()


def renderer_named(name: str, **changes: Any) -> Renderer:
    return Renderer(tokenizer_named(name), dataclasses.replace(TEMPLATE, **changes))


def check_boundary(renderer: Renderer, subject: Row) -> None:
    """Both sides are what they should be, token by token and character by character."""
    tokenizer = renderer.tokenizer
    example = encode_one(renderer, subject)
    assert not example.truncated
    prompt, response = (
        example.ids[: example.last_answer().start],
        example.ids[example.last_answer().start :],
    )
    text = renderer.prompt_text(subject.messages())
    assert prompt == renderer.prompt_ids(text)
    assert response[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in example.ids[:-1]
    if tokenizer.bos_token_id is not None:
        assert [i for i, t in enumerate(example.ids) if t == tokenizer.bos_token_id] == [0]
        prompt = prompt[1:]
    # Decoded behind the prompt: on its own, some tokenizers drop a leading space.
    start, whole = tokenizer.decode(prompt), tokenizer.decode(prompt + response[:-1])
    front = " " if renderer.tokenizer is tokenizer_named("byte-level, space in front") else ""
    assert start.removeprefix(front) == text
    assert whole[len(start) :] == subject.response


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("answer", ["Answer: ", "A:\n", "A:", "Answer:\n\n", "e"])
@pytest.mark.parametrize(
    "response",
    ["hello", " hello", "\nhello", "\n\nhello there", "12", "☃", "  x\n", "é", ": x"],
)
def test_the_boundary_is_exact_for_every_tokenizer(name: str, answer: str, response: str) -> None:
    check_boundary(renderer_named(name, answer=answer), row("ask", response))


@pytest.mark.parametrize("name", MERGING)
def test_these_tokenizers_do_merge_across_the_boundary(name: str) -> None:
    """Without this, the test above would prove nothing."""
    tokenizer = tokenizer_named(name)
    pairs = [("Answer: ", "hello"), ("A:\n", "hello"), ("A:\n", "\nx")]
    for prompt, response in [("e", "\u0301")] if name == "composing accents" else pairs:
        apart = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        whole = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
        assert whole[: len(apart)] != apart


def test_an_accent_at_the_start_of_a_response_stays_there() -> None:
    renderer = renderer_named("composing accents", answer="e")
    check_boundary(renderer, row("ask", "\u0301x"))


# Everything that tokenizers treat in their own way: spaces, line ends, digits, marks, bytes.
text_pieces = st.sampled_from(
    [
        "hello",
        " ",
        "  ",
        "\n",
        "\n\n",
        "Answer:",
        "1",
        "12",
        "x",
        ".",
        "é",
        "☃",
        "</s>",
        "<s>",
        "🙂",
    ]
)
some_text = st.lists(text_pieces, min_size=1, max_size=6).map("".join).filter(str.strip)


@pytest.mark.parametrize("name", [name for name in MERGING if name != "composing accents"])
@given(some_text, some_text, st.sampled_from(["Answer: ", "A:\n", "hello", "\n\n", " "]))
@settings(max_examples=40)
def test_the_boundary_is_exact_for_any_text(
    name: str, asked: str, response: str, answer: str
) -> None:
    check_boundary(renderer_named(name, answer=answer), row(asked, response))


def test_a_tokenizer_of_words_keeps_them_on_their_sides() -> None:
    """BERT's kind drops white space, and two different unknown words are one token."""
    words = ["[UNK]", "</s>", "q", ":", "answer", "hello", "there", "##there", "s", "<", "/", ">"]
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer = wrap(backend)
    for answer, tokens in [
        ("answer: ", ["hello", "there", "</s>"]),
        ("answer", ["hello", "there", "</s>"]),  # one unknown word, if written together
        ("odd", ["hello", "there", "</s>"]),  # unknown alone, and unknown together
    ]:
        renderer = Renderer(tokenizer, dataclasses.replace(TEMPLATE, answer=answer))
        example = encode_one(renderer, row("q", "hello there"))
        assert tokenizer.convert_ids_to_tokens(example.ids[example.last_answer().start :]) == tokens
        prompt = renderer.prompt_text(row("q").messages())
        assert example.ids[: example.last_answer().start] == renderer.prompt_ids(prompt)


def test_special_tokens_in_a_text_are_text(character_tokenizer: Any) -> None:
    renderer = Renderer(character_tokenizer, TEMPLATE)
    subject = row("say </s>", "<s></s>\n", system="<pad>", history=(("</s>", "<s>"),))
    check_boundary(renderer, subject)
    example = encode_one(renderer, subject)
    assert example.supervised == len("<s>") + len("<s></s>\n") + 1


def test_what_a_tokenizer_file_says_of_truncation_and_padding_is_ignored() -> None:
    tokenizer = byte_level(trim_offsets=False)
    expected = Renderer(tokenizer, TEMPLATE).encode([row("ask", "hello " * 9), row()])
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=60)
    assert Renderer(tokenizer, TEMPLATE).encode([row("ask", "hello " * 9), row()]) == expected


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(InputError, match="no end token"):
        Renderer(PreTrainedTokenizerFast(tokenizer_object=backend), TEMPLATE)


def test_a_bos_that_is_the_end_token_is_not_put_in_front() -> None:
    tokenizer = byte_level(trim_offsets=False)
    tokenizer.bos_token = "</s>"
    assert tokenizer.eos_token_id not in Renderer(tokenizer, TEMPLATE).prompt_ids("hello")


rows_of_any_length = st.lists(
    st.builds(
        row,
        some_text,
        some_text,
        history=st.lists(st.tuples(some_text, some_text), max_size=2).map(tuple),
    ),
    max_size=8,
)


@given(rows_of_any_length, st.integers(0, 8), st.randoms(use_true_random=False))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_rows_are_encoded_alike_in_any_order_and_company(
    rows: list[Row], cut: int, rng: Any
) -> None:
    renderer = renderer_named("metaspace first", max_tokens=30)
    examples = renderer.encode(rows)
    assert renderer.encode(rows[:cut]) + renderer.encode(rows[cut:]) == examples
    assert [encode_one(renderer, r) for r in rows] == examples
    order = rng.sample(range(len(rows)), len(rows))
    assert renderer.encode([rows[i] for i in order]) == [examples[i] for i in order]
    assert all(e.start <= len(e.ids) <= 30 for e in examples)


def test_long_pools_are_encoded_in_chunks_and_in_order(character_tokenizer: Any) -> None:
    renderer = Renderer(character_tokenizer, TEMPLATE)
    rows = [row(f"{i}", f"{i}") for i in range(2 * CHUNK + 2)]
    examples = renderer.encode(rows)
    for i in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 1):
        assert examples[i] == encode_one(renderer, rows[i])
    assert len(examples) == len(rows)


# -- truncation and audit ---------------------------------------------------------------------

# With one token a character, a prompt has bos, "Q: ", the question, a line end and "Answer: ".
FRAME = 1 + len("Q: ") + len("\n") + len("Answer: ")


@pytest.fixture
def characters(character_tokenizer: Any) -> Callable[[int], Renderer]:
    return lambda room: Renderer(character_tokenizer, TEMPLATE, context=room)


def supervised_text(renderer: Renderer, example: Example) -> str:
    return renderer.tokenizer.decode(example.ids[example.last_answer().start :])


def test_the_beginning_of_a_response_is_kept(characters: Callable[[int], Renderer]) -> None:
    subject = row("abc", "0123456789")
    whole = FRAME + 3 + 10 + 1
    for room, kept in [(whole, "0123456789</s>"), (whole - 1, "0123456789"), (FRAME + 5, "01")]:
        renderer = characters(room)
        example = encode_one(renderer, subject)
        assert supervised_text(renderer, example) == kept
        assert example.truncated == (room < whole)
        assert len(example.ids) == room


@pytest.mark.parametrize("room", [2, FRAME + 2, FRAME + 3])
def test_a_prompt_that_fills_the_window_supervises_nothing(
    characters: Callable[[int], Renderer], room: int
) -> None:
    renderer = characters(room)
    example = encode_one(renderer, row("abc", "0123"))
    assert example.ids == renderer.prompt_ids("Q: abc\nAnswer: ")[:room]
    assert (example.supervised, example.truncated) == (0, True)


def test_the_oldest_turns_give_way_first(characters: Callable[[int], Renderer]) -> None:
    subject = row("c", "0123", history=(("a", "A"), ("b", "B")))
    turn = len("Q: a\nAnswer: A\n")
    enough = FRAME + 1 + 5
    for room, texts in [
        (enough + 2 * turn, ["Q: a\nAnswer: A\n", "Q: b\nAnswer: B\n"]),
        (enough + 2 * turn - 1, ["Q: b\nAnswer: B\n"]),
        (enough + turn, ["Q: b\nAnswer: B\n"]),
        (enough + turn - 1, []),
        (enough, []),
    ]:
        renderer = characters(room)
        example = encode_one(renderer, subject)
        expected = "".join([*texts, "Q: c\nAnswer: "])
        assert example.ids[: example.last_answer().start] == renderer.prompt_ids(expected)
        assert supervised_text(renderer, example) == "0123</s>"
        assert example.truncated == (len(texts) < 2)


def test_only_without_any_history_is_the_response_cut(
    characters: Callable[[int], Renderer],
) -> None:
    renderer = characters(FRAME + 1 + 3)
    subject = row("c", "0123", history=(("a", "A"), ("b", "B")))
    example = encode_one(renderer, subject)
    assert example == dataclasses.replace(encode_one(renderer, row("c", "0123")), truncated=True)
    assert supervised_text(renderer, example) == "012"


def test_the_smaller_of_template_and_context_is_the_window(character_tokenizer: Any) -> None:
    windows = {None: 400, 100: 100, 1000: 400}
    for context, window in windows.items():
        assert Renderer(character_tokenizer, TEMPLATE, context).max_tokens == window


def test_the_audit_counts_by_hand(characters: Callable[[int], Renderer]) -> None:
    room = FRAME + 10
    renderer = characters(room)
    rows = identify(
        [
            row("ab", "123"),  # FRAME + 2 + 3 + 1 = FRAME + 6
            row("ab", "123"),  # a copy
            row("abcd", "123456"),  # FRAME + 4 + 6 + 1: one too many, so 6 of 7 are learnt
            row("abcdefghij", "1"),  # the prompt fills the window
            row("abcdefghijk", "1"),  # and more than fills it
            row("ab", "123", history=(("x", "y"),)),  # loses its history
        ]
    )
    facts = audit(rows, renderer.encode(rows), renderer).as_dict()
    assert facts == {
        "rows": 6,
        "tokens": 3 * (FRAME + 6) + 3 * room,
        "supervised_tokens": 3 * 4 + 6,
        "truncated_rows": 4,
        "unsupervised_rows": 2,
        "unsupervised_ids": [rows[3].id, rows[4].id],
        "exact_duplicates": 1,
        "answers": 7,
        "supervised_answers": 4,
        "untaught_answers": 0,
        "cut_answers": 3,
        "lost_rows": {},
        "template": "plain",
        "max_tokens": room,
    }


# -- plain template ---------------------------------------------------------------------------


def test_the_templates_of_the_configuration_write_what_they_say(character_tokenizer: Any) -> None:
    subject = row("Q2", "A2", input="I", system="S", history=(("Q1", "A1"),))
    expected = (
        "S\n\n### Instruction:\nQ1\n\n### Response:\nA1\n\n"
        "### Instruction:\nQ2\n\nI\n\n### Response:\n"
    )
    for choice in ("auto", "plain"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", [f"template={choice}"]).template
        renderer = Renderer(character_tokenizer, instantiate(config))
        assert renderer.prompt_text(subject.messages()) == expected
        assert renderer.template.mode == choice


def test_braces_in_a_text_are_text(character_tokenizer: Any) -> None:
    renderer = Renderer(character_tokenizer, TEMPLATE)
    text = renderer.prompt_text(row("{content} {0} {{x}}").messages())
    assert text == "Q: {content} {0} {{x}}\nAnswer: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "chatty"}, "mode=chatty: must be auto, chat or plain. Did you mean 'chat'?"),
        ({"user": "Q:"}, "user=Q:: must contain {content}"),
        ({"max_tokens": 1}, "max_tokens=1: must be a whole number of at least 2"),
        ({"supervise": "some"}, "supervise=some: must be all or last"),
        ({"system_turn": "drop"}, "system_turn=drop: must be keep or user"),
        ({"on_bad_row": "x"}, "on_bad_row=x: must be error or skip"),
        ({"date": "today"}, "date=today: must be a day as 2024-07-26"),
    ],
)
def test_an_impossible_template_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        dataclasses.replace(TEMPLATE, **change)
    assert str(caught.value) == message


# -- chat templates ---------------------------------------------------------------------------

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = TURNS + OPEN


@pytest.fixture
def chat(character_tokenizer: Any) -> Callable[..., Renderer]:
    """A renderer of a chat template over the character tokenizer with ChatML's tokens."""

    def make(template: str | None = CHATML, **changes: Any) -> Renderer:
        backend = Tokenizer.from_str(character_tokenizer.backend_tokenizer.to_str())
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        )
        tokenizer.chat_template = template
        return Renderer(tokenizer, dataclasses.replace(TEMPLATE, **changes))

    return make


def sides(renderer: Renderer, subject: Row) -> tuple[str, str]:
    """Prompt and supervised part; the prompt is checked to be what generation starts from."""
    example = encode_one(renderer, subject)
    assert not example.truncated
    text = renderer.prompt_text(subject.messages())
    assert example.ids[: example.last_answer().start] == renderer.prompt_ids(text)
    assert renderer.tokenizer.decode(example.ids[: example.last_answer().start]) == text
    assert example.ids[-1] == renderer.end_id
    assert example.ids[example.last_answer().start :].count(renderer.end_id) == 1
    return text, renderer.tokenizer.decode(example.ids[example.last_answer().start :])


def test_chatml_is_supervised_up_to_its_end_token(chat: Callable[..., Renderer]) -> None:
    renderer = chat()
    subject = row("Q2", "A2\n", system="S", history=(("Q1", "A1"),))
    assert sides(renderer, subject) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n"
        "<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n"
        "<|im_start|>assistant\n",
        "A2\n<|im_end|>",
    )
    assert renderer.end_id == renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert not renderer.add_bos


@pytest.mark.parametrize(
    ("template", "supervised"),
    [
        (CHATML.replace("m.content", "m.content | trim"), "a<|im_end|>"),
        (CHATML.replace("<|im_end|>\n", " </s>"), " a\n </s>"),
        (CHATML.replace("<|im_end|>\n", "<|im_end|></s>\n"), " a\n<|im_end|>"),
        (CHATML.replace("<|im_end|>\n", "\n\n"), " a\n</s>"),
        (CHATML.replace("<|im_end|>\n", ""), " a\n</s>"),
        (TURNS, "<|im_start|>assistant\n a\n<|im_end|>"),
        ("<s>" + CHATML, " a\n<|im_end|>"),
    ],
    ids=[
        "stripped",
        "space and eos",
        "two end tokens",
        "no end token",
        "nothing",
        "no generation prompt",
        "bos",
    ],
)
def test_every_chat_template_ends_a_response_once(
    chat: Callable[..., Renderer], template: str, supervised: str
) -> None:
    assert sides(chat(template), row("Q", " a\n"))[1] == supervised


def test_a_template_that_writes_bos_gets_no_second_one(chat: Callable[..., Renderer]) -> None:
    renderer = chat("<s>" + CHATML)
    example = encode_one(renderer, row())
    assert example.ids.count(renderer.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("template", [CHATML, CHATML.replace("<|im_end|>\n", "\n")])
def test_an_unknown_character_does_not_end_a_response(
    chat: Callable[..., Renderer], template: str
) -> None:
    renderer = chat(template)
    example = encode_one(renderer, row("Q", "ab☃cd"))
    unknown = renderer.tokenizer.unk_token_id
    expected = renderer.tokenizer.convert_tokens_to_ids(["a", "b", "c", "d"])
    assert example.ids[example.last_answer().start : -1] == [*expected[:2], unknown, *expected[2:]]


@pytest.mark.parametrize("name", MERGING)
def test_chat_boundaries_are_exact_where_tokens_merge(name: str) -> None:
    tokenizer = MERGING[name]()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\nAnswer: "
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    renderer = Renderer(tokenizer, TEMPLATE)
    example = encode_one(renderer, row("ask", "hello there"))
    prompt, response = (
        example.ids[: example.last_answer().start],
        example.ids[example.last_answer().start :],
    )
    assert prompt == renderer.prompt_ids("Q: ask\nAnswer: ")
    assert response[-1] == tokenizer.eos_token_id
    start = tokenizer.decode(prompt)
    assert tokenizer.decode(prompt + response[:-1])[len(start) :] == "hello there"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages | length }}" + CHATML, "writes the prompt differently once it is answered"),
        ("{% for m in messages[:1] %}{{ m.content }}{% endfor %}", "leaves answers out"),
        ("{{ raise_exception('not today') }}", "cannot write a conversation of user, assistant: "),
        ("{% for", "cannot write a conversation"),
        ("{{ 1 + 'a' }}", "cannot write a conversation"),
    ],
)
def test_a_template_of_no_use_is_refused_with_the_way_out(
    chat: Callable[..., Renderer], template: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        chat(template).encode([row()])
    assert message in str(caught.value)
    assert "use template=plain" in str(caught.value)
    assert chat(template, mode="plain").encode([row()])


def test_a_conversation_that_the_template_refuses_is_described(
    chat: Callable[..., Renderer],
) -> None:
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    renderer = chat(picky + CHATML)
    renderer.encode([row()])
    with pytest.raises(InputError, match="a conversation of system, user, assistant: no system"):
        renderer.encode([row(system="S")])


def test_answers_that_end_differently_are_refused(chat: Callable[..., Renderer]) -> None:
    template = "{% for m in messages %}{{ m.content }}{{ '|' * messages | length }}{% endfor %}"
    with pytest.raises(InputError, match=r"differently once|in the same way"):
        chat(template).encode([row(history=(("Q", "A"),))])


def test_the_mode_decides_which_template_is_taken(chat: Callable[..., Renderer]) -> None:
    assert chat().chat
    assert chat(mode="chat").chat
    assert not chat(mode="plain").chat
    assert not chat(None).chat
    with pytest.raises(InputError, match="the tokenizer has no chat template; use auto"):
        chat(None, mode="chat")


def test_the_fingerprint_knows_all_that_decides_the_tokens(chat: Callable[..., Renderer]) -> None:
    prints = [
        chat().fingerprint(),
        chat(mode="plain").fingerprint(),
        chat(CHATML + " ").fingerprint(),
        chat(answer="A:").fingerprint(),
        chat(max_tokens=50).fingerprint(),
    ]
    assert all(prints.count(one) == 1 for one in prints)
    assert chat().fingerprint() == prints[0]
    assert json.loads(json.dumps(prints)) == prints


@pytest.mark.real
def test_real_rows_with_a_real_tokenizer(real_data: Path) -> None:
    from spice.data.pool import FilePool
    from spice.models.checkpoint import Checkpoint

    checkpoint = Checkpoint(str(real_data / "checkpoints" / "stories260K"), "float32")
    names = ("gsm8k_train", "codegen_instruct", "lima", "oasst1_en")
    paths = [str(real_data / "pools" / f"{name}.jsonl") for name in names]
    template = dataclasses.replace(TEMPLATE, max_tokens=100_000, answer="### Response:\n")
    renderer = Renderer(checkpoint.tokenizer(), template)
    for subject in FilePool(paths, 100, "error").load().rows:
        check_boundary(renderer, subject)
