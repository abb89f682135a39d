"""Batches hold each row's tokens and nothing of its neighbours; the plan of training is exact."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spice.data.batches import IDLE, IGNORED, Dealt, PaddedBatches, TrainingPlan, length_order, pad
from spice.data.rendering import Example
from spice.models.checkpoint import Checkpoint
from spice.models.loss import response_nll

PAD = 0


def example(tokens: int, start: int, seed: int = 0) -> Example:
    rng = np.random.default_rng([seed, tokens, start])
    return Example(rng.integers(4, 90, tokens).tolist(), start)


# Of different lengths; with a prompt only, with a response only, with one token in all.
EXAMPLES = [
    example(12, 5),
    example(7, 6),
    example(20, 1),
    example(9, 9),
    example(6, 0),
    example(1, 1),
    example(1, 0),
]


# -- padding ---------------------------------------------------------------------------------


def test_a_batch_by_hand() -> None:
    batch = pad([Example([5, 6, 7], 1), Example([8], 1), Example([3, 4], 0)], [2, 0], pad_id=9)
    assert batch["rows"] == [2, 0]
    assert batch["input_ids"].tolist() == [[3, 4, 9], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[3, 4, IGNORED], [IGNORED, 6, 7]]
    assert {batch[k].dtype for k in ("input_ids", "attention_mask", "labels")} == {torch.int64}


def test_what_stands_between_answers_has_no_label() -> None:
    batch = pad([Example([3, 4, 5, 6, 7, 8], 1, gaps=((2, 4), (5, 6)))], [0], pad_id=9)
    assert batch["labels"].tolist() == [[IGNORED, 4, IGNORED, IGNORED, 7, IGNORED]]


def test_a_real_token_that_looks_like_padding_is_supervised_and_seen() -> None:
    batch = pad([Example([5, PAD, PAD], 1), Example([5, 6, 7, 8], 1)], [0, 1], pad_id=PAD)
    assert batch["labels"][0].tolist() == [IGNORED, PAD, PAD, IGNORED]
    assert batch["attention_mask"][0].tolist() == [1, 1, 1, 0]


def test_batches_are_padded_when_asked_for() -> None:
    batches = PaddedBatches(EXAMPLES, [[0, 1], [2]], PAD)
    assert len(batches) == 2
    assert [tuple(batches[i]["input_ids"].shape) for i in range(2)] == [(2, 12), (1, 20)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_the_length_order_is_longest_first_and_stable(lengths: list[int], data: Any) -> None:
    examples = [example(t, 1) for t in lengths]
    eligible = data.draw(st.lists(st.sampled_from(range(len(lengths))), unique=True))
    order = length_order(examples, eligible).tolist()
    assert order == sorted(eligible, key=lambda row: (-lengths[row], eligible.index(row)))


# -- loss ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    return Checkpoint(str(make_checkpoint(request.param)), "float32").load()


def losses(model: Any, rows: list[int], pad_id: int = PAD) -> tuple[list[float], list[int]]:
    with torch.no_grad():
        nll, count = response_nll(model, pad(EXAMPLES, rows, pad_id))
    return nll.tolist(), count.tolist()


@torch.no_grad()
def plain_loss(model: Any, subject: Example) -> tuple[float, int]:
    """The model's own mean loss of one unpadded row, and over how many tokens it is taken."""
    labels = [IGNORED] * subject.start + subject.ids[subject.start :]
    count = subject.supervised - (subject.start == 0)  # nothing predicts the first token
    if not count:
        return 0.0, 0
    loss = model(torch.tensor([subject.ids]), labels=torch.tensor([labels])).loss
    return float(loss), count


def test_the_loss_is_the_models_own(model: Any) -> None:
    for row, subject in enumerate(EXAMPLES):
        mean, expected = plain_loss(model, subject)
        (nll,), (count,) = losses(model, [row])
        assert count == expected
        assert nll == pytest.approx(mean * expected, rel=1e-5)


def test_the_loss_of_a_batch_is_the_models_own(model: Any) -> None:
    batch = pad(EXAMPLES, range(len(EXAMPLES)), PAD)
    tensors = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        nll, count = response_nll(model, batch)
        assert float(nll.sum() / count.sum()) == pytest.approx(float(model(**tensors).loss), 1e-5)


@pytest.mark.parametrize("pad_id", [PAD, 50])
def test_the_loss_knows_neither_padding_nor_neighbours(model: Any, pad_id: int) -> None:
    alone = [losses(model, [row])[0][0] for row in range(len(EXAMPLES))]
    for rows in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 0], [3, 1], [5, 3], [1, 1, 0]):
        found, _ = losses(model, rows, pad_id)
        assert found == pytest.approx([alone[row] for row in rows], rel=1e-5)


def test_a_batch_without_supervision_costs_nothing(model: Any) -> None:
    assert losses(model, [3, 5]) == ([0.0, 0.0], [0, 0])


def test_the_loss_of_half_precision_is_summed_in_full(model: Any) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        nll, _ = response_nll(half, pad(EXAMPLES, [0, 2], PAD))
    assert nll.dtype == torch.float32
    assert nll.tolist() == pytest.approx(losses(model, [0, 2])[0], rel=0.05)


# -- plan ------------------------------------------------------------------------------------


plans = st.fixed_dictionaries(
    {
        "rows": st.lists(st.integers(0, 999), min_size=1, max_size=30, unique=True),
        "epochs": st.integers(1, 4),
        "max_steps": st.none() | st.integers(1, 8),
        "batch_size": st.integers(1, 12),
        "seed": st.integers(0, 2**32),
    }
).flatmap(
    lambda known: st.integers(1, known["batch_size"]).map(
        lambda micro: {**known, "micro_batch_size": micro}
    )
)


@given(plans)
def test_a_plan_is_one_stream_of_epochs_cut_into_steps(known: dict[str, Any]) -> None:
    plan = TrainingPlan(**known)
    rows, epochs, size = known["rows"], known["epochs"], known["batch_size"]
    whole = TrainingPlan(**known | {"max_steps": None})
    stream = [row for step in whole.steps for row in step]
    for epoch in range(epochs):
        part = stream[epoch * len(rows) : (epoch + 1) * len(rows)]
        assert Counter(part) == Counter(rows)
    assert len(whole.steps) == math.ceil(epochs * len(rows) / size)
    assert all(len(step) == size for step in whole.steps[:-1])
    assert plan.steps == whole.steps[: known["max_steps"]]


@given(plans)
def test_micro_batches_split_the_steps_and_nothing_else(known: dict[str, Any]) -> None:
    plan = TrainingPlan(**known)
    micro = known["micro_batch_size"]
    assert plan.accumulate == math.ceil(known["batch_size"] / micro)
    for number, step in enumerate(plan.steps):
        parts = [b for b, of in zip(plan.batches, plan.step_of, strict=True) if of == number]
        assert [row for part in parts for row in part] == step
        assert all(len(part) == micro for part in parts[:-1])
        if number < len(plan.steps) - 1:  # where Lightning counts to `accumulate`, a step ends
            assert len(parts) == plan.accumulate
    assert plan.steps == TrainingPlan(**known | {"micro_batch_size": 1}).steps


@given(plans, st.data())
def test_a_resumed_plan_goes_on_where_a_step_ended(known: dict[str, Any], data: Any) -> None:
    plan = TrainingPlan(**known)
    dealt = Dealt(plan)
    assert list(dealt) == list(range(len(dealt)))
    done = data.draw(st.integers(0, len(plan.steps) - 1))
    dealt.start = done * dealt.accumulate
    left = [row for number in dealt for row in plan.batches[number]]
    assert left == [row for step in plan.steps[done:] for row in step]
    assert len(dealt) == len(plan.batches)  # Lightning counts up to the whole plan's length


@given(plans, st.integers(1, 5))
def test_processes_share_each_step_out_and_end_it_together(
    known: dict[str, Any], size: int
) -> None:
    plan = TrainingPlan(**known)
    dealt = [Dealt(plan, rank, size) for rank in range(size)]
    assert len({len(each) for each in dealt}) == 1
    steps = len(plan.steps)
    for number in range(steps):  # where Lightning counts to `accumulate`, a step ends
        here = slice(number * dealt[0].accumulate, (number + 1) * dealt[0].accumulate)
        parts = [each.numbers[here] for each in dealt]
        assert number + 1 == steps or {len(part) for part in parts} == {dealt[0].accumulate}
        shared = sorted(n for part in parts for n in part if n != IDLE)
        assert shared == [n for n, of in enumerate(plan.step_of) if of == number]


def test_a_plan_is_its_seeds() -> None:
    def order(seed: int) -> list[list[int]]:
        options: dict[str, Any] = {"epochs": 2, "max_steps": None, "micro_batch_size": 2}
        return TrainingPlan(range(20), batch_size=4, seed=seed, **options).steps

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:5] != order(1)[5:]  # each epoch is shuffled anew
