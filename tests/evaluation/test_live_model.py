"""The live model behind lm-eval: what fits, where answers end, what stays untouched."""

import dataclasses
import os
import random
import socket
import sys

import datasets
import evaluate
import langdetect
import nltk
import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from tiny_models import PUBLISHED, letters, llama, renderer, word_starts

from spice.data.rendering import Renderer
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.evaluation import live_model, surroundings
from spice.evaluation.asked import Asked, evaluating
from spice.evaluation.code_execution.pass_at_k import PassAtK
from spice.evaluation.generation import Generation

FEW_STOPS = {"until": ["\n", "zz"], "do_sample": False, "max_gen_toks": 12}


def by(model, tokenizer, reader, batch_size):
    return PerRank(lambda: Asked(model, tokenizer, reader.end_id, batch_size, seed=0))


def live(tokenizer=None, *, context=128, batch_size=4, model=None, **options):
    tokenizer = tokenizer or letters()
    reader = renderer(tokenizer, context)
    return live_model.LiveModel(
        by(model or llama(context), tokenizer, reader, batch_size),
        tokenizer,
        reader,
        max_length=context,
        batch_size=batch_size,
        **options,
    )


def scored(pairs):
    return [Instance("loglikelihood", {}, p, i, ("task", i, 1)) for i, p in enumerate(pairs)]


def asked(prompts, settings=None):
    return [
        Instance("generate_until", {}, (p, dict(settings or FEW_STOPS)), 0, ("task", i, 1))
        for i, p in enumerate(prompts)
    ]


PAIRS = [
    ("The sky is", " blue"),
    ("The sky is", " b"),
    ("The sky is", " c"),
    ("The sky is ", "blue"),
    ("2 + 2 =", " 4"),
    ("", "alone"),
    ("A much longer context, so that the rows of a batch differ in length:", " yes"),
]
PROMPTS = ["The sky is", "Q: 1 + 1\nA:", "Name a colour, then a number, then an animal: ", "x"]


class TestAgainstTheHarness:
    """Where everything fits, our wrapper says what lm-eval's own says."""

    @pytest.fixture(params=["bos by post-processor", "no bos"])
    def both(self, request):
        from lm_eval.models.huggingface import HFLM

        tokenizer = letters(bos=request.param != "no bos", writes_bos=request.param != "no bos")
        model = llama()
        theirs = HFLM(model, tokenizer=tokenizer, batch_size=3, max_length=128)
        return live(tokenizer, model=model), theirs

    def test_log_likelihoods(self, both):
        mine, theirs = both
        expected = theirs.loglikelihood(scored(PAIRS), disable_tqdm=True)
        for (value, greedy), (other, also) in zip(
            mine.loglikelihood(scored(PAIRS)), expected, strict=True
        ):
            assert value == pytest.approx(other, rel=1e-5)
            assert greedy == also
        assert not mine.cut

    def test_answers(self, both):
        mine, theirs = both
        expected = theirs.generate_until(asked(PROMPTS), disable_tqdm=True)
        assert mine.generate_until(asked(PROMPTS)) == expected
        assert len(set(expected)) > 1


class TestWhatFits:
    def test_a_cut_log_likelihood_is_the_direct_one(self):
        context = 32
        tokenizer = letters()
        model = llama(context).double()
        subject = live(tokenizer, context=context, model=model)
        text, answer = "Lorem ipsum dolor sit amet, consectetur adipiscing", " elit"
        [(value, _)] = subject.loglikelihood(scored([(text, answer)]))

        ids = tokenizer.encode(text + answer, add_special_tokens=False)
        window = [tokenizer.bos_token_id, *ids[-context:]]  # the last token is only predicted
        logits = model(torch.tensor([window[:-1]])).logits[0]
        expected = 0.0
        for position in range(len(window) - 1 - len(answer), len(window) - 1):
            p = torch.softmax(logits[position], 0)[window[position + 1]]
            expected += torch.log(p).item()
        assert value == pytest.approx(expected, rel=1e-5)
        assert subject.cut == {("task", 0)}

    def test_a_choice_longer_than_the_context_is_scored_on_its_first_half(self):
        subject = live(context=16)
        start, whole = ("question", " " + "a" * 7), ("question", " " + "a" * 40)
        short, long = subject.loglikelihood(scored([start, whole]))
        assert subject.cut == {("task", 1)}
        assert long == pytest.approx(short, rel=1e-6)

    @pytest.mark.parametrize(
        ("length", "room", "prompt_kept", "budget"),
        [
            (10, 20, 10, 20),  # both fit
            (44, 20, 44, 20),  # just
            (45, 20, 44, 20),  # the prompt gives way
            (200, 20, 44, 20),
            (200, 60, 32, 32),  # the answer gets half at most
            (10, 60, 10, 32),
            (10, 1000, 10, 32),
        ],
    )
    def test_prompt_and_answer_share_the_context(self, length, room, prompt_kept, budget):
        subject = live(context=64)
        plan = subject.context.generation("q" * (length - 1), {"max_gen_toks": room})
        assert (len(plan.prompt), plan.budget) == (prompt_kept, budget)
        assert plan.prompt[0] == subject.context.tokenizer.bos_token_id
        assert plan.cut == (prompt_kept < length)
        assert plan.shortened == (budget < room)

    def test_documents_are_counted_once_and_only_if_something_was_lost(self):
        subject = live(context=32)
        choices = [("long " * 20, " a"), ("long " * 20, " b"), ("short", " a")]
        requests = [
            Instance("loglikelihood", {}, c, i, ("task", d, 1))
            for i, (c, d) in enumerate(zip(choices, [0, 0, 1], strict=True))
        ]
        subject.loglikelihood(requests)
        assert subject.cut == {("task", 0)}

    def test_an_answer_that_ends_in_time_is_not_cut(self):
        subject = live(context=32)
        [full] = subject.generate_until(asked(["x"], {"until": [], "max_gen_toks": 100}))
        assert subject.cut == {("task", 0)}
        subject.cut.clear()
        stop = full[3:5]
        [short] = subject.generate_until(asked(["x"], {"until": [stop], "max_gen_toks": 100}))
        assert short == full.partition(stop)[0]
        assert not subject.cut

    def test_the_users_cap_is_no_cut(self):
        subject = live(context=64, max_new_tokens=5)
        [answer] = subject.generate_until(asked(["x"], {"until": [], "max_gen_toks": 1000}))
        assert len(answer) == 5
        assert not subject.cut


class TestTokens:
    @pytest.mark.parametrize("writes_bos", [True, False])
    def test_exactly_one_bos(self, writes_bos):
        subject = live(letters(writes_bos=writes_bos))
        assert subject.context.encode("ab")[:2] == [
            1,
            subject.context.tokenizer.convert_tokens_to_ids("a"),
        ]
        assert subject.context.encode("<s>ab").count(1) == 1  # the benchmark's text is text

    def test_no_bos_where_the_tokenizer_has_none(self):
        subject = live(letters(bos=False))
        assert len(subject.context.encode("ab")) == 2

    def test_raw_text_gets_the_tokenizers_bos_even_if_the_template_writes_its_own(self):
        tokenizer = letters(writes_bos=True)
        tokenizer.chat_template = (
            "<s>{% for m in messages %}{{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}A: {% endif %}"
        )
        from spice.data.rendering import Renderer
        from spice.data.template import Template

        pieces = {"system": "{content}", "user": "{content}", "earlier_answer": "{content}"}
        template = Template("auto", **pieces, answer="", max_tokens=64, **PUBLISHED)
        chatty = Renderer(tokenizer, template, 64)
        build = lambda chat: live_model.LiveModel(  # noqa: E731
            by(llama(), tokenizer, chatty, 1), tokenizer, chatty, max_length=64, batch_size=1,
            chat=chat,
        )  # fmt: skip
        assert build(False).context.encode("ab").count(1) == 1
        text = build(True).apply_chat_template([{"role": "user", "content": "hi"}])
        assert build(True).context.encode(text).count(1) == 1

    def test_an_answer_keeps_its_leading_space(self):
        subject = live(word_starts())
        space = subject.context.tokenizer.convert_tokens_to_ids("▁")
        new = [space, space, *subject.context.tokenizer.convert_tokens_to_ids(["x", "y"])]
        plan = Generation(subject.context.encode("def f():\n"), 9, False, False, (), "{}")
        assert subject.asked().writer.finish(plan, new, stopped=True) == ("  xy", True)
        assert subject.context.tokenizer.decode(new) == " xy"  # what decoding it alone would give

    def test_an_answer_ends_before_any_end_token(self):
        model = llama()
        model.generation_config.eos_token_id = [5]
        subject = live(model=model)
        assert subject.asked().writer.end_ids() == [2, 5]
        plan = Generation([1, 9], 9, False, False, (), "{}")
        for end in (2, 5):
            text, ended = subject.asked().writer.finish(plan, [10, 11, end, 12], stopped=False)
            assert (len(text), ended) == (2, True)

    def test_an_answer_ends_where_the_chat_template_ends_one(self):
        tokenizer = letters()
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
        plain = renderer(tokenizer).template
        chat = Renderer(tokenizer, dataclasses.replace(plain, mode="chat"), 128)
        subject = live_model.LiveModel(
            by(llama(), tokenizer, chat, 1), tokenizer, chat, max_length=128, batch_size=1
        )
        assert tokenizer.convert_tokens_to_ids("<|end|>") in subject.asked().writer.end_ids()

    def test_a_chat_prompt_is_the_renderers(self):
        subject = live(chat=True)
        messages = [{"role": "user", "content": "hi"}]
        assert subject.apply_chat_template(messages) == "Q: hi\nA: "
        begun = [*messages, {"role": "assistant", "content": "Well,"}]
        assert subject.apply_chat_template(begun, add_generation_prompt=False) == "Q: hi\nA: Well,"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_nothing_depends_on_the_batch_size(batch_size):
    prompts = [*PROMPTS, "y" * 150, "z" * 90]
    reference, other = live(batch_size=3), live(batch_size=batch_size)
    assert other.generate_until(asked(prompts)) == reference.generate_until(asked(prompts))
    pairs = [*PAIRS, ("w" * 300, " end")]
    for (a, _), (b, _) in zip(
        other.loglikelihood(scored(pairs)), reference.loglikelihood(scored(pairs)), strict=True
    ):
        assert a == pytest.approx(b, rel=1e-5)
    assert other.cut == reference.cut


def test_a_repeated_context_is_read_once():
    subject = live(batch_size=8)
    rows = []
    subject.asked().model.model.embed_tokens.register_forward_pre_hook(
        lambda module, inputs: rows.append(len(inputs[0]))
    )
    subject.loglikelihood(scored([("Pick one:", f" {x}") for x in "ABCD"]))
    assert rows == [1]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_prompt_that_is_asked_again_is_answered_anew(batch_size):
    settings = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 12}
    answers = live(batch_size=batch_size).generate_until(asked(["Say"] * 8, settings))
    assert len(set(answers)) == 8
    assert live(batch_size=batch_size).generate_until(asked(["Say"] * 8, settings)) == answers


class TestSettingsComeBack:
    def test_modes(self):
        model = llama().train()
        model.lm_head.eval()
        with evaluating(model):
            assert not any(m.training for m in model.modules())
        assert model.training
        assert not model.lm_head.training

    def test_random_numbers(self):
        def draw():
            return random.random(), np.random.rand(), torch.rand(1).item()

        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        expected = draw()
        random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
        drawn = []
        for _ in range(2):
            with surroundings.seeded(7):
                drawn.append(draw())
        assert drawn[0] == drawn[1] != expected
        assert draw() == expected

    def test_libraries_and_environment(self, tmp_path):
        before = datasets.load_dataset, evaluate.load, nltk.download, list(nltk.data.path)
        environment = dict(os.environ)
        with (
            surroundings.quiet(),
            surroundings.mirrored(tmp_path, tmp_path),
            surroundings.sandboxed_code(),
            surroundings.instruction_checkers(tmp_path, 3),
        ):
            assert os.environ["HF_HUB_OFFLINE"] == "1"
            assert isinstance(evaluate.load("code_eval"), PassAtK)
            assert nltk.download("punkt_tab") is False
            assert str(tmp_path / "nltk_data") in nltk.data.path
            assert langdetect.DetectorFactory.seed == 3
        after = datasets.load_dataset, evaluate.load, nltk.download, list(nltk.data.path)
        assert before == after
        assert dict(os.environ) == environment
        assert langdetect.DetectorFactory.seed is None
        assert not datasets.are_progress_bars_disabled()

    def test_task_modules_that_hold_the_metric_are_forgotten(self):
        module = type(sys)("held")
        module.__mtime__ = 1
        sys.modules["held"] = module
        with surroundings.sandboxed_code():
            assert "held" not in sys.modules


class TestMirror:
    def test_what_it_lacks_is_named_and_no_network_is_touched(self, tmp_path, monkeypatch):
        monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("network"))
        with (
            surroundings.mirrored(tmp_path, tmp_path / "cache"),
            pytest.raises(InputError, match="lacks some/where"),
        ):
            datasets.load_dataset("some/where")

    def test_a_folder_in_the_hubs_layout(self, tmp_path):
        folder = tmp_path / "some" / "where"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: test\n"
            "    path: a.jsonl\n---\n"
        )
        with surroundings.quiet(), surroundings.mirrored(tmp_path, tmp_path / "cache"):
            assert datasets.load_dataset("some/where", "small")["test"]["x"][:] == [1, 2]
        assert (tmp_path / "cache").is_dir()
