import json
import logging
import math
import os
import random
import socket
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tiny_models import letters, llama, renderer

from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.evaluation import evaluation, live_model, surroundings
from spice.evaluation.benchmarks import Benchmark, Suite
from spice.evaluation.code_execution.pass_at_k import missing_walls, sandbox_available
from spice.evaluation.evaluation import Evaluation

REAL = os.environ.get("SPICE_REAL_DATA")

GENERATE = """
task: {name}
dataset_path: org/sums
dataset_name: {config}
output_type: generate_until
test_split: test
fewshot_split: train
doc_to_text: "{{{{question}}}}="
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: {room}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.5
"""
GROUP = """
group: all_sums
task: [sums_small, sums_large]
aggregate_metric_list:
  - metric: exact_match
    aggregation: mean
    weight_by_size: true
metadata:
  version: 2
"""
CHOOSE = """
task: pick
dataset_path: org/sums
dataset_name: large
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}="
doc_to_choice: ["1", "2", "33"]
doc_to_target: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""
CODE = """
task: code
dataset_path: org/sums
dataset_name: large
unsafe_code: true
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "assert answer == {{answer}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
metric_list:
  - metric: !function scoring.passes
    aggregation: mean
    higher_is_better: true
filter_list:
  - name: correct
    filter:
      - function: custom
        filter_fn: !function scoring.write_the_answer
"""
SCORING = """
import evaluate

code_eval = evaluate.load("code_eval")


def passes(references, predictions):
    return code_eval.compute(references=references, predictions=predictions, k=[1])[0]


def write_the_answer(resps, docs):
    right = lambda doc: "answer = " + (doc["answer"] if doc["answer"] != "4" else "0")
    return [[right(doc) for _ in r] for r, doc in zip(resps, docs)]
"""


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def readme(folder, configs):
    lines = ["---", "configs:"]
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A mirror with one data set and a folder with tasks that read it."""
    root = tmp_path_factory.mktemp("world")
    sums = root / "mirror" / "org" / "sums"
    for config, count in (("small", 2), ("large", 6)):
        rows = [{"question": f"1+{i}", "answer": str(1 + i)} for i in range(count)]
        jsonl(sums / config / "test.jsonl", rows)
        jsonl(
            sums / config / "train.jsonl",
            [{"question": f"0+{i}", "answer": str(i)} for i in range(9)],
        )
    splits = lambda c: {s: f"{c}/{s}.jsonl" for s in ("test", "train")}  # noqa: E731
    readme(sums, {c: splits(c) for c in ("small", "large")})

    tasks = root / "tasks"
    tasks.mkdir()
    for config in ("small", "large"):
        name = f"sums_{config}"
        text = GENERATE.format(name=name, config=config, room=6)
        (tasks / f"{name}.yaml").write_text(text)
    (tasks / "long.yaml").write_text(GENERATE.format(name="long", config="large", room=500))
    (tasks / "all.yaml").write_text(GROUP)
    (tasks / "pick.yaml").write_text(CHOOSE)
    (tasks / "code.yaml").write_text(CODE)
    (tasks / "scoring.py").write_text(SCORING)
    return root


def benchmark(world, task, metric, shots=0, **more):
    folder = str(world / "tasks")
    return Benchmark(task, task, shots, metric, ("org/sums",), include_path=folder, **more)


def a_suite(world, *benchmarks, **options):
    options = {"mirror": str(world / "mirror"), "batch_size": 4} | options
    return Suite(tasks={b.name: b for b in benchmarks}, **options)


def run(world, suite, *, context=128, seed=0, model=None, names=None):
    tokenizer = letters()
    results = []
    evaluation = Evaluation(
        PerRank(lambda: model or llama(context)),
        tokenizer,
        renderer(tokenizer, context),
        suite,
        max_length=context,
        seed=seed,
        on_score=lambda score, samples: results.append((score, samples)),
        names=names,
        cache=world / "cache",
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(evaluation, verbose=False)
    return results


SUMS = ("sums_large", "exact_match,none")


def test_a_score_holds_what_is_needed_to_trust_it(world):
    [(score, samples)] = run(world, a_suite(world, benchmark(world, *SUMS, shots=2), limit=4))
    assert (score.benchmark, score.metric, score.shots, score.n) == (*SUMS, 2, 4)
    assert (score.version, score.cut, score.excluded, score.skipped) == ("1.5", 0, 0, None)
    assert score.subtasks == {}
    assert score.value == np.mean([s["value"] for s in samples])
    values = [s["value"] for s in samples]
    assert score.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(4))


def test_samples_say_what_was_asked_and_answered(world):
    [(_, samples)] = run(world, a_suite(world, benchmark(world, *SUMS, shots=2)))
    first = samples[0]
    assert json.loads(json.dumps(samples)) == samples
    assert first["prompt"].endswith("\n\n1+0=")
    assert first["prompt"].count("0+") == 2
    assert first["target"] == "1"
    assert isinstance(first["answers"][0], str)
    assert first["choices"] is None
    assert [s["id"] for s in samples] == list(range(6))


def test_choices_come_with_their_log_probabilities(world):
    [(score, samples)] = run(world, a_suite(world, benchmark(world, "pick", "acc_norm,none")))
    for sample in samples:
        assert sample["choices"] == [" 1", " 2", " 33"]
        logs = [log for log, _ in sample["answers"]]
        lengths = [1, 1, 2]
        best = np.argmax([log / n for log, n in zip(logs, lengths, strict=True)])
        assert sample["value"] == float(best == 0)
    assert score.n == 6


def test_a_group_weighs_its_subtasks_by_size_and_limit_is_per_subtask(world):
    group = benchmark(world, "all_sums", "exact_match,none")
    [(score, samples)] = run(world, a_suite(world, group))
    parts = score.subtasks
    assert {name: part["n"] for name, part in parts.items()} == {"sums_small": 2, "sums_large": 6}
    assert score.n == 8
    assert score.value == pytest.approx(sum(p["value"] * p["n"] for p in parts.values()) / 8)
    assert score.version == "2"
    assert parts["sums_small"]["version"] == "1.5"
    assert parts["sums_small"].keys() >= {"value", "stderr", "metric"}
    assert {s["task"] for s in samples} == set(parts)
    [(limited, _)] = run(world, a_suite(world, group, limit=1))
    assert {p["n"] for p in limited.subtasks.values()} == {1}
    assert limited.stderr is None  # not from single items


def test_the_same_seed_gives_the_same_score_and_another_shows_other_shots(world):
    suite = a_suite(world, benchmark(world, *SUMS, shots=3))
    first, again, other = (run(world, suite, seed=seed)[0][1] for seed in (0, 0, 1))
    assert first == again
    assert [s["prompt"] for s in first] != [s["prompt"] for s in other]


def test_scores_do_not_depend_on_the_batch_size(world):
    tasks = benchmark(world, *SUMS, shots=2), benchmark(world, "pick", "acc,none")
    sizes = [run(world, a_suite(world, *tasks, batch_size=size)) for size in (1, 3, 16)]
    for (one, samples), (two, others) in zip(sizes[0] * 2, sizes[1] + sizes[2], strict=True):
        assert one == two
        assert [s["value"] for s in samples] == [s["value"] for s in others]


def test_another_split_can_be_scored(world):
    [(score, samples)] = run(world, a_suite(world, benchmark(world, *SUMS, split="train")))
    assert score.n == 9
    assert samples[0]["prompt"] == "0+0="


def test_chat_asks_through_the_renderer(world):
    suite = a_suite(world, benchmark(world, *SUMS, shots=1), chat=True)
    [(_, samples)] = run(world, suite)
    lines = samples[0]["prompt"].split("\n")
    assert [line[:3] for line in lines] == ["Q: ", "A: ", "Q: ", "A: "]
    assert lines[-1] == "A: "


def test_a_context_too_short_is_said_once_and_counted(world, caplog):
    with caplog.at_level(logging.WARNING):
        [(score, samples)] = run(
            world, a_suite(world, benchmark(world, *SUMS, shots=5)), context=24
        )
    warnings = [r.message for r in caplog.records if r.name == "spice.evaluation.evaluation"]
    assert warnings == [
        "sums_large: 6 of 6 items did not fit the context of 24 tokens and were scored on what fits"
    ]
    assert score.cut == 6
    assert all(sample["cut"] for sample in samples)


def test_room_for_a_long_answer_is_cut_to_what_the_context_has(world):
    [(score, samples)] = run(world, a_suite(world, benchmark(world, "long", "exact_match,none")))
    assert max(len(s["answers"][0]) for s in samples) <= 64
    assert score.cut == sum(s["cut"] for s in samples)


def test_everything_global_is_as_before(world):
    model = llama().train()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    before = dict(os.environ), datasets.load_dataset, evaluate.load
    level = logging.getLogger("lm_eval").level
    run(world, a_suite(world, benchmark(world, *SUMS, shots=2)), model=model)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert states == after
    assert (dict(os.environ), datasets.load_dataset, evaluate.load) == before
    assert logging.getLogger("lm_eval").level == level
    assert model.training


def test_nothing_is_printed_and_no_network_is_touched(world, monkeypatch, capfd):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("network"))
    capfd.readouterr()
    suite = a_suite(world, benchmark(world, *SUMS))
    tokenizer = letters()
    evaluation = Evaluation(
        PerRank(llama), tokenizer, renderer(tokenizer), suite, max_length=128, seed=0,
        on_score=print, cache=world / "cache",
    )  # fmt: skip
    evaluation.score("sums_large")
    assert capfd.readouterr() == ("", "")


def test_results_arrive_one_by_one_and_only_those_asked_for(world):
    tasks = benchmark(world, *SUMS), benchmark(world, "pick", "acc,none")
    assert [s.benchmark for s, _ in run(world, a_suite(world, *tasks))] == ["sums_large", "pick"]
    suite = a_suite(world, *tasks)
    assert [s.benchmark for s, _ in run(world, suite, names=["pick"])] == ["pick"]


def test_a_metric_that_the_task_lacks_is_refused_before_any_answer(world, monkeypatch):
    monkeypatch.setattr(live_model.LiveModel, "generate_until", lambda *_: pytest.fail("asked"))
    with pytest.raises(InputError, match="reports exact_match,none"):
        run(world, a_suite(world, benchmark(world, "sums_large", "acc,none")))


class TestCode:
    def test_without_consent_nothing_is_even_built(self, world, monkeypatch):
        monkeypatch.setattr(surroundings, "task_manager", lambda _: pytest.fail("built"))
        suite = a_suite(world, benchmark(world, "code", "pass@1,correct", runs_code=True))
        [(score, samples)] = run(world, suite)
        assert score.value is None
        assert "benchmarks.allow_code_execution=true" in score.skipped
        assert (score.n, samples) == (0, [])
        assert score.as_dict()["value"] is None

    def test_a_task_that_runs_code_without_saying_so_is_stopped(self, world):
        suite = a_suite(
            world, benchmark(world, "code", "pass@1,correct"), allow_code_execution=True
        )
        with pytest.raises(InputError, match="runs_code"):
            run(world, suite)

    @pytest.mark.skipif(sandbox_available() is not None, reason="no sandbox here")
    def test_with_consent_it_runs_in_the_sandbox(self, world):
        code = benchmark(world, "code", "pass@1,correct", runs_code=True)
        [(score, samples)] = run(world, a_suite(world, code, allow_code_execution=True))
        assert score.value == pytest.approx(5 / 6)  # the filter errs where the answer is 4
        assert [s["value"] for s in samples] == [1, 1, 1, 0, 1, 1]
        assert score.unguarded == (missing_walls() or None)

    @pytest.mark.skipif(sandbox_available() is not None, reason="no sandbox here")
    def test_the_record_says_what_the_kernel_has_no_wall_against(self, world, monkeypatch):
        monkeypatch.setattr(evaluation, "missing_walls", lambda: "no Landlock")
        code = benchmark(world, "code", "pass@1,correct", runs_code=True)
        for consent, told in ((True, "no Landlock"), (False, None)):
            [(score, _)] = run(world, a_suite(world, code, allow_code_execution=consent))
            assert score.as_dict().get("unguarded") == told
        plain = benchmark(world, "pick", "acc,none")
        [(score, _)] = run(world, a_suite(world, plain))
        assert "unguarded" not in score.as_dict()


class TestInstructions:
    """lm-eval's own IFEval, on three items of our own."""

    @pytest.fixture
    def suite(self, tmp_path):
        folder = tmp_path / "google" / "IFEval"
        kinds = ["punctuation:no_comma", "length_constraints:number_sentences"]
        kinds.append("change_case:english_lowercase")
        arguments = [{}, {"relation": "at least", "num_sentences": 1}, {}]
        rows = [
            {"key": i, "prompt": f"Item {i}", "instruction_id_list": [kind], "kwargs": [kwargs]}
            for i, (kind, kwargs) in enumerate(zip(kinds, arguments, strict=True))
        ]
        jsonl(folder / "train.jsonl", rows)
        readme(folder, {"default": {"train": "train.jsonl"}})
        ifeval = Benchmark(
            "ifeval",
            "ifeval",
            0,
            "prompt_level_strict_acc,none",
            ("google/IFEval",),
            include_path="lm_eval.tasks:ifeval",
            punkt=(kinds[1],),
        )
        return Suite({"ifeval": ifeval}, mirror=str(tmp_path))

    def test_only_items_that_cannot_be_checked_are_left_out(
        self, world, suite, monkeypatch, caplog
    ):
        monkeypatch.setattr("spice.evaluation.benchmarks._find_punkt", lambda _: False)
        with caplog.at_level(logging.WARNING):
            [(score, samples)] = run(world, suite)
        assert (score.n, score.excluded) == (2, 1)
        assert [s["prompt"] for s in samples] == ["Item 0", "Item 2"]
        assert sum("punkt_tab" in r.message for r in caplog.records) == 1


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="SPICE_REAL_DATA is not set")
def test_the_eight_benchmarks_from_a_mirror(tmp_path, monkeypatch):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from spice.models.checkpoint import Checkpoint

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("network"))
    conf = Path(__file__).parents[2] / "conf"
    settings = [
        "+benchmarks=paper",
        f"benchmarks.mirror={REAL}/benchmarks",
        "benchmarks.limit=2",
        "benchmarks.allow_code_execution=true",
    ]
    with initialize_config_dir(str(conf), version_base="1.3"):
        suite = instantiate(compose(overrides=settings).benchmarks, _convert_="all")
    suite.check()
    checkpoint = Checkpoint(f"{REAL}/checkpoints/babyllama_char105", "float32")
    tokenizer, context = checkpoint.tokenizer(), checkpoint.context()
    scores = []
    evaluation = Evaluation(
        PerRank(checkpoint.load),
        tokenizer,
        renderer(tokenizer, context),
        suite,
        max_length=context,
        seed=0,
        on_score=lambda score, _: scores.append(score),
        cache=tmp_path,
    )
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.test(evaluation, verbose=False)
    assert [s.n for s in scores] == [2, 54, 114, 2, 2, 2, 2, 2]
    assert [len(s.subtasks) for s in scores] == [0, 27, 57, 0, 0, 0, 0, 0]
    assert all(0 <= s.value <= 1 and s.skipped is None for s in scores)


def test_a_split_that_is_not_there_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    from compose import job

    from spice.pipeline.check import mistakes
    from spice.pipeline.draft import Draft

    config = job("benchmarks.only=mmlu", "benchmarks.tasks.mmlu.split=nowhere", "budget=9")
    [told] = mistakes(Draft(config, tmp_path / "run", fetch=False))
    assert told.startswith("benchmarks.tasks.mmlu.split=nowhere: sandbox_mmlu")
    assert "validation, test" in told
