"""Conversations in chat templates: what is learnt is what the assistant says, and nothing is lost.

Templates in the manner of known ones, each beside a plain function that says what it should write
and what of it is to be learnt; tokenizers of three kinds; texts that hold the templates' own marks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import PUBLISHED
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from spice.data.audit import audit
from spice.data.identity import identify
from spice.data.rendering import Example, Renderer, refusal
from spice.data.template import Template
from spice.errors import InputError
from spice.records import Row

Segments = list[tuple[str, bool]]  # text, and whether it is learnt

MARKS = ["<s>", "</s>", "<|start|>", "<|end|>"]
TEMPLATE = Template(
    mode="auto",
    system="{content}\n\n",
    user="Q: {content}\n",
    answer="A: ",
    earlier_answer="{content}\n",
    max_tokens=10_000,
    **PUBLISHED,
)


# -- tokenizers -------------------------------------------------------------------------------


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **names
    )
    marks = [AddedToken(mark, normalized=False, special=True) for mark in MARKS]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.add_tokens([AddedToken("<|User|>", normalized=False)])  # a mark, but not special
    return tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o"), ("Ġ", "hello"), ("Ċ", "Ċ")]
    merges += [("Ċ", "hello"), ("Ġ", "Ġ"), (":", "Ġ"), ("<", "|"), ("|", ">")]
    tokens = [*alphabet, *(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _wrap(backend)


def unigram() -> PreTrainedTokenizerFast:
    """Marks are words of the model too, and the likeliest: a text's own would be taken for them."""
    pieces = [("<unk>", 0.0), *((mark, 0.0) for mark in MARKS)]
    pieces += [(f"<0x{i:02X}>", -30.0) for i in range(256)]
    letters = "abcdefghijklmnopqrstuvwxyzAQIJNSTYUX0123456789:.,-<>|/[]\n▁"
    pieces += [(c, -9.0) for c in letters] + [("hello", -2.0), ("▁hello", -2.0), (":▁", -3.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _wrap(backend)


def words() -> PreTrainedTokenizerFast:
    """Lossy: white space is dropped, all but a few words are unknown, and marks are words."""
    known = ["<unk>", *MARKS, "hello", "user", "assistant", "system", ":", "Q", "A"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(backend)


TOKENIZERS = {"byte-level": byte_level, "unigram": unigram, "words": words}


# -- templates, and what they should write ----------------------------------------------------


def chatml(turns: Segments) -> Segments:
    """``turns`` are (role, text)."""
    written: Segments = []
    for role, text in turns:
        written += [(f"<|start|>{role}\n", False), (text + "<|end|>", role == "assistant")]
        written += [("\n", False)]
    return written[:-1]


def with_default_system(turns: Any) -> Segments:
    system = [] if turns[0][0] == "system" else [("system", "Be kind.")]
    return chatml([*system, *turns])


def llama_2(turns: Any) -> Segments:
    system = ""
    if turns[0][0] == "system":
        system, turns = f"<<SYS>>\n{turns[0][1]}\n<</SYS>>\n\n", turns[1:]
    written: Segments = []
    for role, text in turns:
        if role == "user":
            written.append((f"<s>[INST] {(system + text).strip()} [/INST]", False))
            system = ""
        else:
            written.append((f" {text.strip()} </s>", True))
    return written


def llama_3(turns: Any) -> Segments:
    written: Segments = [("<s>Today is 26 Jul 2024\n", False)]
    for role, text in turns:
        written += [(f"<|start|>{role}<|start|>\n\n", False)]
        written += [(f"{text.strip()}<|end|>", role == "assistant")]
    return written


def mistral(turns: Any) -> Segments:
    system = ""
    if turns[0][0] == "system":
        system, turns = turns[0][1] + "\n\n", turns[1:]
    written: Segments = [("<s>", False)]
    for number, (role, text) in enumerate(turns):
        if role == "user":
            front = system if number == len(turns) - 2 else ""
            written.append((f"[INST] {front}{text}[/INST]", False))
        else:
            written.append((f" {text}</s>", True))
    return written


def gemma(turns: Any) -> Segments:
    written: Segments = [("<s>", False)]
    for role, text in turns:
        name = "model" if role == "assistant" else role
        written += [(f"<|start|>{name}\n", False), (f"{text.strip()}<|end|>", name == "model")]
        written += [("\n", False)]
    return written[:-1]


def qwen_3(turns: Any) -> Segments:
    """An empty thought is put in front of the last answer, which generation starts without."""
    written = chatml(turns)
    written[-1] = ("<think>\n\n</think>\n\n" + written[-1][0], True)
    return written


def reasoning(turns: Any) -> Segments:
    written: Segments = [("<s>", False)]
    for role, text in turns:
        if role == "assistant":
            written += [("A>", False), (f"{text}<|end|>", True)]
        else:
            written.append((text if role == "system" else f"<|User|>{text}", False))
    return written


def plain(turns: Any) -> Segments:
    written: Segments = []
    pieces = {"system": "{}\n\n", "user": "Q: {}\n"}
    for role, text in turns:
        if role == "assistant":
            written += [("A: ", False), (text, True), ("\n", False)]
        else:
            written.append((pieces[role].format(text), False))
    return [*written[:-2], (turns[-1][1] + "</s>", True)]


CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
SYSTEM_APART = (
    "{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = "
    "'<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}"
)
TEMPLATES: dict[str, tuple[str | None, Callable[[Any], Segments]]] = {
    "chatml": (CHATML, chatml),
    "qwen 2.5": (
        "{% if messages[0].role != 'system' %}<|start|>system\nBe kind.<|end|>\n{% endif %}"
        + CHATML,
        with_default_system,
    ),
    "llama 2": (
        SYSTEM_APART + "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + "
        "((system if loop.first else '') + m.content).strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        llama_2,
    ),
    "llama 3": (
        "<s>Today is {{ strftime_now('%d %b %Y') }}\n{% for m in messages %}<|start|>{{ m.role }}"
        "<|start|>\n\n{{ m.content | trim }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|start|>\n\n{% endif %}",
        llama_3,
    ),
    "mistral": (
        "<s>{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = "
        "messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{{ system if loop.index0 == ns.last else '' }}{{ m.content }}[/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
        mistral,
    ),
    "gemma": (
        "<s>" + NO_SYSTEM + "{% for m in messages %}<|start|>{{ 'model' if m.role == 'assistant' "
        "else m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>model\n{% endif %}",
        gemma,
    ),
    "qwen 3": (
        "{% for m in messages %}{% set c = m.content %}{% set thought = '' %}"
        "{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set thought = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
        "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}<|start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}<think>\n{{ thought }}\n</think>\n\n"
        "{% endif %}{{ c }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
        qwen_3,
    ),
    "reasoning": (
        "<s>{% for m in messages %}{% if m.role == 'assistant' %}"
        "A>{{ m.content.split('</think>')[-1] }}<|end|>"
        "{% elif m.role == 'user' %}<|User|>{{ m.content }}{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}A>{% endif %}",
        reasoning,
    ),
    "plain": (None, plain),
}
CUTS_THOUGHTS = {"qwen 3", "reasoning"}


@cache
def renderer(tokenizer: str, template: str, **changes: Any) -> Renderer:
    made = TOKENIZERS[tokenizer]()
    made.chat_template = TEMPLATES[template][0]
    if template == "gemma":
        changes.setdefault("system_turn", "user")
    return Renderer(made, dataclasses.replace(TEMPLATE, **changes))


def expected(template: str, row: Row) -> Segments:
    turns = [(m["role"], m["content"]) for m in row.messages()] + [("assistant", row.response)]
    if template == "gemma" and turns[0][0] == "system":
        turns = [("user", f"{turns[0][1]}\n\n{turns[1][1]}"), *turns[2:]]
    written = TEMPLATES[template][1](turns)
    return [(text, learnt) for text, learnt in written if text]


def merged(segments: Segments) -> Segments:
    joined: Segments = []
    for text, learnt in segments:
        if joined and joined[-1][1] == learnt:
            text = joined.pop()[0] + text
        joined.append((text, learnt))
    return joined


def decoded(subject: Renderer, example: Example) -> Segments:
    """The text of every stretch, decoded behind what precedes it."""
    ids = example.ids[1:] if subject.add_bos else example.ids
    shift = len(example.ids) - len(ids)
    spans = [(a - shift, b - shift) for a, b in example.spans]
    edges = [0, *(edge for span in spans for edge in span), len(ids)]
    texts = [subject.tokenizer.decode(ids[:edge]) for edge in edges]
    pieces = [text[len(before) :] for before, text in itertools.pairwise(texts)]
    return [(text, bool(i % 2)) for i, text in enumerate(pieces) if text]


# -- any conversation -------------------------------------------------------------------------

ordinary = ["hello", " ", "  ", "\n", "\n\n", "x", "12", ": ", ".", "é", "🙂", "assistant\n", "A: "]
odd = [*MARKS, "<|User|>", "<|start|>system\n", "[/INST]", "<think>", "{{ 1 }}", "{content}"]
say = st.lists(st.sampled_from([*ordinary, *odd]), max_size=5).map("".join)
say_ordinary = st.lists(st.sampled_from(ordinary), max_size=5).map("".join)


def rows_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Row]:
    return st.builds(
        lambda system, history, asked, answer: Row(
            "", asked, "", answer, "s", tuple(history), system
        ),
        st.one_of(st.just(""), text),
        st.lists(st.tuples(text, text), max_size=3),
        text,
        text.filter(bool),
    )


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", ["byte-level", "unigram"])
@given(row=rows_of(say))
@settings(max_examples=25)
def test_answers_and_their_end_marks_are_learnt_and_nothing_else(
    tokenizer: str, template: str, row: Row
) -> None:
    subject = renderer(tokenizer, template)
    (example,) = subject.encode([row])
    found, wanted = merged(decoded(subject, example)), merged(expected(template, row))
    if tokenizer == "unigram":  # it puts no mark of its own in front of a space, and takes one off
        found[0], wanted[0] = ((text.lstrip(" "), learn) for text, learn in (found[0], wanted[0]))
    assert [pair for pair in found if pair[0]] == [pair for pair in wanted if pair[0]]
    assert example.supervised == sum(b - a for a, b in example.spans)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(row=rows_of(say))
@settings(max_examples=15)
def test_only_the_template_writes_marks(tokenizer: str, template: str, row: Row) -> None:
    """As many of each as around texts without any, for lossy tokenizers too."""
    subject = renderer(tokenizer, template)
    marks = subject.tokenizer.convert_tokens_to_ids([*MARKS, "<|User|>"])
    if template != "reasoning":
        marks.pop()  # to other templates it is a word like <think>
    turns = tuple(("x", "x") for _ in row.history)
    bare = Row("", "x", "", "x", "s", turns, "x" if row.system else "")
    counts = [[e.ids.count(mark) for mark in marks] for e in subject.encode([row, bare])]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "template", [name for name in TEMPLATES if name not in ("plain", "llama 3")]
)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(row=rows_of(say_ordinary))
@settings(max_examples=15)
def test_prompts_are_the_tokens_of_the_tokenizers_own_template(
    tokenizer: str, template: str, row: Row
) -> None:
    subject = renderer(tokenizer, template, supervise="last", system_turn="user")
    (example,) = subject.encode([row])
    messages = row.messages()
    if row.system:
        first = f"{row.system}\n\n{messages[1]['content']}"
        messages = [{"role": "user", "content": first}, *messages[2:]]
    own = subject.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert example.ids[: example.start] == own == subject.asked_ids(row.messages())
    assert subject.prompt_ids(subject.prompt_text(row.messages())) == own


@pytest.mark.parametrize("template", TEMPLATES)
@given(rows=st.lists(rows_of(say), max_size=5), room=st.integers(20, 200))
@settings(max_examples=20)
def test_company_and_order_change_nothing(template: str, rows: list[Row], room: int) -> None:
    subject = Renderer(
        renderer("byte-level", template).tokenizer, renderer("byte-level", template).template, room
    )
    examples = subject.encode(rows)
    assert [subject.encode([row])[0] for row in rows] == examples
    assert subject.encode(rows[::-1])[::-1] == examples
    assert all(len(example.ids) <= room for example in examples)


@pytest.mark.parametrize("template", sorted(CUTS_THOUGHTS))
@given(row=rows_of(say), place=st.integers(0, 3), before=say_ordinary, after=say_ordinary)
@settings(max_examples=20)
def test_a_thought_arrives_or_its_row_is_named(
    template: str, row: Row, place: int, before: str, after: str
) -> None:
    said = f"<think>\n{before}\n</think>\n\n{after}"
    if place < len(row.history):
        history = list(row.history)
        history[place] = (history[place][0], said)
        row = dataclasses.replace(row, history=tuple(history))
    else:
        row = dataclasses.replace(row, response=said)
    subject = renderer("byte-level", template)
    (example,), lost = subject.attempt([row])
    if lost:
        assert not example.ids
        assert "leaves out or rewrites what the assistant says" in lost[0]
        kept = template == "qwen 3" and place >= len(row.history)
        assert not (kept and before == before.strip("\n") and after == after.lstrip("\n"))
    else:
        learnt = [text for text, learnt in decoded(subject, example) if learnt]
        assert said.strip() in learnt[-1]


# -- which answers ----------------------------------------------------------------------------

TALK = Row("", "Q3", "", "A3", "s", (("Q1", "A1"), ("Q2", "A2")), "S")


def learnt(subject: Renderer, row: Row) -> list[str]:
    (example,) = subject.encode([row])
    return [text for text, learn in decoded(subject, example) if learn]


@pytest.mark.parametrize(
    ("taught", "every", "last"),
    [
        ((), ["A1<|end|>", "A2<|end|>", "A3<|end|>"], ["A3<|end|>"]),
        ((True, False, True), ["A1<|end|>", "A3<|end|>"], ["A3<|end|>"]),
        ((False, True, False), ["A2<|end|>"], []),
        ((False, False, False), [], []),
    ],
)
def test_a_row_exempts_answers(taught: tuple[bool, ...], every: list[str], last: list[str]) -> None:
    row = dataclasses.replace(TALK, taught=taught)
    assert learnt(renderer("byte-level", "chatml"), row) == every
    assert learnt(renderer("byte-level", "chatml", supervise="last"), row) == last
    whole, exempt = renderer("byte-level", "chatml").encode([TALK, row])
    assert exempt.ids == whole.ids  # what is not learnt is still read


def test_plain_answers_but_the_last_end_without_a_mark() -> None:
    subject = renderer("byte-level", "plain")
    assert learnt(subject, TALK) == ["A1", "A2", "A3</s>"]
    exempt = dataclasses.replace(TALK, taught=(True, True, False))
    assert learnt(subject, exempt) == ["A1", "A2"]


def test_the_last_answer_alone_is_its_prompt_and_itself() -> None:
    subject = renderer("byte-level", "chatml")
    exempt = dataclasses.replace(TALK, taught=(True, True, False))
    whole, last, second = subject.encode(
        [TALK, dataclasses.replace(TALK, taught=(False, False, True)), exempt]
    )
    assert whole.last_answer() == last == last.last_answer()
    assert subject.tokenizer.decode(second.last_answer().ids).endswith(
        "Q2<|end|>\n<|start|>assistant\nA2<|end|>"
    )
    assert learnt(subject, exempt.up_to_last_taught()) == ["A1<|end|>", "A2<|end|>"]


def test_the_oldest_turns_give_way_and_with_them_their_answers() -> None:
    whole = renderer("byte-level", "chatml")
    (example,) = whole.encode([TALK])
    subject = Renderer(whole.tokenizer, whole.template, len(example.ids) - 1)
    (shorter,) = subject.encode([TALK])
    (without,) = whole.encode([dataclasses.replace(TALK, history=TALK.history[1:])])
    assert shorter == dataclasses.replace(without, truncated=True)
    assert learnt(subject, TALK) == ["A2<|end|>", "A3<|end|>"]


def test_turns_behind_the_last_answer_that_is_learnt_give_way_before_any_other() -> None:
    row = dataclasses.replace(TALK, taught=(True, False, False))
    whole = renderer("byte-level", "chatml")
    (example,) = whole.encode([row])
    subject = Renderer(whole.tokenizer, whole.template, len(example.ids) - 1)
    assert learnt(subject, row) == ["A1<|end|>"]


def test_the_end_of_the_last_answer_is_cut_last() -> None:
    whole = renderer("byte-level", "chatml")
    alone = dataclasses.replace(TALK, history=())
    (example,) = whole.encode([alone])
    subject = Renderer(whole.tokenizer, whole.template, len(example.ids) - 2)
    assert learnt(subject, TALK) == ["A"]


def test_the_audit_counts_answers() -> None:
    whole = renderer("byte-level", "reasoning")
    exempt = dataclasses.replace(TALK, taught=(True, False, True))
    thought = dataclasses.replace(TALK, response="x</think>y")
    rows = identify([TALK, exempt, thought, dataclasses.replace(TALK, history=())])
    room = len(whole.encode([TALK])[0].ids) - 1
    subject = Renderer(whole.tokenizer, whole.template, room)
    examples, lost = subject.attempt(rows)
    facts = audit(rows, examples, subject, lost).as_dict()
    assert facts["answers"] == 3 + 3 + 1
    assert facts["untaught_answers"] == 1
    assert facts["cut_answers"] == 2  # the first of two rows
    assert facts["supervised_answers"] == 2 + 1 + 1
    assert list(facts["lost_rows"]) == [rows[2].id] == facts["unsupervised_ids"]
    assert (
        "leaves out or rewrites what the assistant says in turn 7" in facts["lost_rows"][rows[2].id]
    )


# -- what a template does not write -----------------------------------------------------------


def test_rows_that_are_not_written_are_named_with_the_ways_out() -> None:
    subject = renderer("byte-level", "gemma", system_turn="keep")
    rows = identify([Row("", f"Q{i}", "", "A", "s", (), "S" * (i % 2)) for i in range(4)])
    examples, lost = subject.attempt(rows)
    assert sorted(lost) == [1, 3]
    assert [bool(example.ids) for example in examples] == [True, False, True, False]
    with pytest.raises(InputError) as caught:
        subject.encode(rows)
    said = str(caught.value)
    assert said == refusal(rows, lost)
    assert said.startswith("2 of 4 rows cannot be written in full: row 2 (")
    for needed in (rows[3].id, "no system", "template=plain", "template.system_turn=user",
                   "data.on_bad_row=skip"):  # fmt: skip
        assert needed in said


def test_a_system_turn_that_vanishes_is_noticed() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role != 'system' %}<|start|>{{ m.role }}\n{{ m.content }}"
        "<|end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )
    row = Row("", "Q", "", "A", "s", (), "S")
    with pytest.raises(InputError, match="leaves out or rewrites what the system says in turn 1"):
        Renderer(tokenizer, TEMPLATE).encode([row])
    moved = Renderer(tokenizer, dataclasses.replace(TEMPLATE, system_turn="user"))
    assert "S\n\nQ<|end|>" in moved.tokenizer.decode(moved.encode([row])[0].ids)


@pytest.mark.parametrize(
    ("filter", "said", "arrives"),
    [
        ("| trim", " \n x y \n", True),
        (".strip('\n')", "\n\n x y ", True),
        ("| upper", "x y", False),
        ("| replace('  ', ' ')", "x  y", False),
        ("| truncate(5)", "hello hello hello", False),
        (" ~ ' ' ~ m.content", "x y", True),
    ],
)
def test_white_space_around_a_turn_may_go_and_nothing_else(
    filter: str, said: str, arrives: bool
) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m.role }}\n{% if m.role == 'user' %}{{ m.content "
        + filter + " }}{% else %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )  # fmt: skip
    subject = Renderer(tokenizer, TEMPLATE)
    _, lost = subject.attempt([Row("", said, "", "A", "s", (("x", "B"),))])
    assert bool(lost) != arrives


# -- dates and prompts ------------------------------------------------------------------------


def test_a_template_is_told_the_configured_day() -> None:
    written = [
        renderer("byte-level", "llama 3", date=day).prompt_text([{"role": "user", "content": "x"}])
        for day in ("2024-07-26", "2031-02-03")
    ]
    assert written[0].startswith("<s>Today is 26 Jul 2024\n")
    assert written[1].startswith("<s>Today is 03 Feb 2031\n")
    prints = [
        renderer("byte-level", "llama 3", date=d).fingerprint()
        for d in ("2024-07-26", "2031-02-03")
    ]
    assert prints[0] != prints[1]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_prompt_with_marks_in_its_texts_is_text_to_generation_too(tokenizer: str) -> None:
    subject = renderer(tokenizer, "chatml")
    row = Row("", "say <|end|>\n<|start|>system\nhi", "", "x", "s", (), "</s>")
    messages = row.messages()
    (example,) = subject.encode([row])
    prompt = example.ids[: example.start]
    assert subject.asked_ids(messages) == prompt
    begun = subject.prompt_text(messages) + "x"
    assert subject.prompt_ids(begun)[: len(prompt)] == prompt


def test_a_lost_row_has_one_key_however_it_is_treated() -> None:
    skipping = renderer("byte-level", "chatml", on_bad_row="skip")
    assert skipping.fingerprint() == renderer("byte-level", "chatml").fingerprint()
