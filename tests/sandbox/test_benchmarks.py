"""Each benchmark through lm-eval's own task objects, answered by an oracle and by a fool."""

import re
from functools import cache
from importlib.util import find_spec
from itertools import islice
from random import Random

import pytest

from spice.sandbox import BENCHMARKS
from spice.sandbox.items import items
from spice.sandbox.language import ANIMALS, COLOURS, FRUITS, THINGS, WORDS_IN_USE, split_of
from spice.sandbox.making.corpus import documents
from spice.sandbox.pool import generate
from spice.sandbox.skills import SKILLS

NAMES = ("gsm8k", "bbh", "mmlu", "arc", "truthfulqa", "ifeval", "humaneval", "mbpp")
needs_code_execution = pytest.mark.skipif(
    find_spec("spice.evaluation.code_execution") is None, reason="code execution is missing"
)


@cache
def tasks(name: str) -> list:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(BENCHMARKS), include_defaults=False)
    return list(manager.load([f"sandbox_{name}"])["tasks"].values())


def score(task, doc: dict, right: bool) -> float:
    """What the task's own scorer gives the reference answer, or a wrong one."""
    if task.OUTPUT_TYPE == "multiple_choice":
        best = doc["gold"] if right else (doc["gold"] + 1) % len(doc["choices"])
        result = [(0.0 if i == best else -99.0, i == best) for i in range(len(doc["choices"]))]
    else:
        [request] = [task.construct_requests(doc, doc["prompt"], metadata=("", 0, 1))]
        request.resps = [doc["reference"] if right else "I do not know."]
        task._instances = [request]
        task.apply_filters()
        result = list(request.filtered_resps.values())[:1]
    [value] = task.process_results(doc, result).values()
    return float(value)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_code_execution if name in {"humaneval", "mbpp"} else ())
        for name in NAMES
    ],
)
@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_reference_scores_one_and_a_wrong_answer_nothing(name, split):
    for task in tasks(name):
        docs = task.test_docs() if split == "test" else task.validation_docs()
        for doc in list(docs)[:12]:
            assert score(task, doc, right=True) == pytest.approx(1.0), doc
            assert score(task, doc, right=False) == pytest.approx(0.0, abs=1e-9), doc


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_prompts(name):
    test = [doc for task in tasks(name) for doc in task.test_docs()]
    validation = [doc for task in tasks(name) for doc in task.validation_docs()]
    assert 100 <= len(test) <= 200
    assert len(validation) >= 40
    prompts = [doc["prompt"] for doc in test + validation]
    assert len(set(prompts)) == len(prompts)
    assert all(
        task.doc_to_text(doc) == doc["prompt"] for task in tasks(name) for doc in task.test_docs()
    )


def invented(text: str) -> set[str]:
    """The names in a text, by their spelling: consonant, vowel, consonant."""
    pattern = r"\b[bdfgklmnprstvz][aeiou][bdfgklmnprstvz]\b"
    return set(re.findall(pattern, text.lower()))


def test_every_invented_name_keeps_to_its_split():
    trained: set[str] = set()
    for row, _ in generate(3000, 11):
        trained |= invented(f"{row.prompt} {row.response}")
    stream = documents(Random(12))
    for _ in range(3000):
        document = next(stream)
        trained |= invented(document.prompt + document.response)
    for split in ("test", "validation"):
        named = {
            word
            for skill in SKILLS
            for item in items([skill], split, 60)
            for word in invented(item["prompt"])
            if split_of(word) == split and word not in WORDS_IN_USE
        }
        assert named
        assert not named & trained


MEMBERS = {*COLOURS, *THINGS, *FRUITS, *ANIMALS, *"123456789"}
ANSWERS_TO_SETS = re.compile("(The number is|The word is|It is the|First [0-9],) ?")


def together(prompt: str) -> frozenset[str]:
    """The known words and single digits of a prompt, whatever their order."""
    return frozenset(re.findall(r"[a-z]+|[0-9]+", prompt)) & MEMBERS


def test_every_set_of_options_or_digits_keeps_to_its_split():
    asking = ["choose_word", "choose_number", "choose_size", "sort"]
    trained = {together(row.prompt) for row, t in generate(5000, 11) if t.skill in asking}
    for document in islice(documents(Random(12)), 8000):
        if ANSWERS_TO_SETS.match(document.response):
            trained.add(together(document.prompt))
    assert len(trained) > 1000
    for skill in asking:
        for split in ("test", "validation"):
            asked = {together(item["prompt"]) for item in items([skill], split, 60)}
            assert {len(members) for members in asked} <= {3, 4}
            assert not asked & trained


def test_no_prompt_of_a_benchmark_is_in_a_pool_or_in_the_base_models_corpus():
    seen = {row.prompt for seed in range(3) for row, _ in generate(2000, seed)}
    stream = documents(Random(5))
    seen |= {next(stream).prompt for _ in range(5000)}
    for name in NAMES:
        for task in tasks(name):
            prompts = {doc["prompt"] for doc in (*task.test_docs(), *task.validation_docs())}
            assert not prompts & seen
            assert not any(prompt in text for prompt in prompts for text in seen)
