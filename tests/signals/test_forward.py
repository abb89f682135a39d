"""Losses, ratings and embeddings against a loop over single texts; stores that are resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compose import composed
from hydra.utils import instantiate

from spice.data.audit import audit
from spice.data.identity import identify
from spice.data.rendering import Renderer
from spice.gradients.extraction import Extraction
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.tokenized import Tokenized
from spice.records import Row
from spice.selectors.fishersft import square
from spice.signals.base import Signal
from spice.signals.embeddings import Embeddings, TargetEmbeddings
from spice.signals.experience import Prompts
from spice.signals.losses import Losses
from spice.signals.ratings import Ratings
from spice.signals.source import Source
from spice.signals.token_information import TokenInformation

LORA = Lora(4, 8, 0.0, "all-linear")
EXTRACTION = Extraction(LORA, "mean", None, "float32", 3, 10_000, 9_000, 2, 0)
ROWS = identify(
    Row("", f"Say {word} {i} times.", "", " ".join([word] * i), "a")
    for i, word in enumerate(["red", "green", "blue", "black", "white"], start=1)
)
REQUESTS = ["Task: {instruction} Answer: {response} Grade:", "{response}? Rate {instruction}:"]


@pytest.fixture(params=["llama", "qwen2"])
def checkpoint(request: Any, make_checkpoint: Callable[..., Path]) -> Checkpoint:
    return Checkpoint(str(make_checkpoint(request.param)), "float32")


@pytest.fixture
def renderer(checkpoint: Checkpoint) -> Renderer:
    template = instantiate(composed("template=plain").template)
    return Renderer(checkpoint.tokenizer(), template, checkpoint.context())


def values(
    checkpoint: Checkpoint,
    renderer: Renderer,
    signal: Signal,
    folder: Path,
    batch_size: int = 3,
    rows: list[Row] = ROWS,
    said: list[str] | None = None,
) -> np.ndarray:
    extraction = Extraction(LORA, "mean", None, "float32", batch_size, 10_000, 9_000, 2, 0)
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    source = source_of(checkpoint, renderer, extraction, rows, signal)
    source = replace(source, trainer=trainer, say=(said if said is not None else []).append)
    signal.build(folder, source)
    return signal.load(folder, source)


def source_of(
    checkpoint: Checkpoint,
    renderer: Renderer,
    extraction: Extraction,
    rows: list[Row],
    signal: Signal,
) -> Source:
    examples = renderer.encode(rows)
    tokenized = Tokenized(checkpoint, renderer, examples, audit(rows, examples, renderer), {})
    return Source(
        rows=rows,
        tokenized=tokenized,
        extraction=extraction,
        key=signal.fingerprint(extraction),
        targets=rows[2:],
        tokenized_by=lambda other: tokenized,
        trainer={},
        say=print,
        gradients=lambda: np.zeros((len(rows), 1)),
    )


def logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return checkpoint.load()(input_ids=torch.tensor([ids])).logits[0].double()


def test_losses_are_those_of_the_same_tokens_with_the_prompt_and_without(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    found = values(checkpoint, renderer, Losses(), tmp_path)
    opening = renderer.prompt_ids("### Response:\n")
    for row, (conditional, direct) in zip(ROWS, found, strict=True):
        [example] = renderer.encode([row])
        response = example.ids[example.start :]
        for head, loss in ((example.ids[: example.start], conditional), (opening, direct)):
            given = logits(checkpoint, [*head, *response])[len(head) - 1 : -1]
            expected = torch.nn.functional.cross_entropy(given, torch.tensor(response))
            assert loss == pytest.approx(float(expected), rel=1e-5)


# -- conversations: ONE is learnt by its first answer, TALK by both -----------------------------

TALK, ONE = identify(
    Row("", "b?", "", "blue", "a", (("r?", "red"),), taught=taught)
    for taught in ((), (True, False))
)
R, B = "### Instruction:\nr?\n\n### Response:\n", "### Instruction:\nb?\n\n### Response:\n"


def test_losses_of_a_conversation_are_those_of_its_last_answer_that_is_learnt(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    found = values(checkpoint, renderer, Losses(), tmp_path, rows=[TALK, ONE, TALK])
    end = [renderer.end_id]
    cases = ((found[0], f"{R}red\n\n{B}", "blue", end), (found[1], R, "red", []))
    for pair, prompt, answer, mark in cases:
        response = [*renderer.continuation(answer), *mark]
        for head, loss in zip((prompt, "### Response:\n"), pair, strict=True):
            ids = renderer.prompt_ids(head)
            given = logits(checkpoint, [*ids, *response])[len(ids) - 1 : -1]
            expected = torch.nn.functional.cross_entropy(given, torch.tensor(response))
            assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_conversation_is_graded_by_its_last_answer_that_is_learnt(renderer: Renderer) -> None:
    for row, asked, answer in ((TALK, "b?", "blue"), (ONE, "r?", "red")):
        [texts] = Ratings(REQUESTS).texts(renderer, [row], [])
        for request, text in zip(REQUESTS, texts, strict=True):
            content = request.format(instruction=asked, response=answer)
            expected = f"### Instruction:\n{content}\n\n### Response:\n"
            assert text.ids == renderer.prompt_ids(expected)


def test_the_prompt_of_a_conversation_is_all_before_that_answer(renderer: Renderer) -> None:
    rows = [TALK, ONE]
    texts = Prompts().texts(renderer, rows, renderer.encode(rows))
    for [text], expected in zip(texts, (f"{R}red\n\n{B}", R), strict=True):
        assert text.ids == renderer.prompt_ids(expected)


def test_token_information_is_of_all_answers_that_are_learnt(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    rows = [TALK, ONE, TALK]
    found = square(values(checkpoint, renderer, TokenInformation(None), tmp_path, rows=rows))
    for row, moment in zip(rows, found, strict=True):
        [example] = renderer.encode([row])
        with torch.no_grad():
            states = checkpoint.load()(
                input_ids=torch.tensor([example.ids]), output_hidden_states=True
            ).hidden_states[-1][0]
        predicts = [i - 1 for start, end in example.spans for i in range(start, end)]
        assert len(example.spans) == (2 if row.id != ONE.id else 1)
        exact = (states[predicts].T @ states[predicts]).numpy()
        assert moment == pytest.approx(exact, rel=1e-4, abs=1e-4)


# -- single texts -----------------------------------------------------------------------------


def test_embeddings_are_means_over_a_rows_own_tokens(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    found = values(checkpoint, renderer, Embeddings(), tmp_path)
    for row, embedding in zip(ROWS, found, strict=True):
        [example] = renderer.encode([row])
        with torch.no_grad():
            states = checkpoint.load()(
                input_ids=torch.tensor([example.ids]), output_hidden_states=True
            ).hidden_states[-1][0]
        assert embedding == pytest.approx(states.mean(dim=0).numpy(), abs=1e-5)


def test_weighted_embeddings_count_a_token_by_its_place(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    found = values(checkpoint, renderer, Embeddings("weighted"), tmp_path)
    for row, embedding in zip(ROWS, found, strict=True):
        [example] = renderer.encode([row])
        with torch.no_grad():
            states = checkpoint.load()(
                input_ids=torch.tensor([example.ids]), output_hidden_states=True
            ).hidden_states[-1][0]
        t = len(example.ids)
        expected = sum(2 * i / (t * (t + 1)) * state for i, state in enumerate(states, start=1))
        assert embedding == pytest.approx(torch.as_tensor(expected).numpy(), abs=1e-5)


@pytest.mark.parametrize("padded", ["right", "left"])
def test_the_first_token_is_the_first_that_is_no_padding(padded: str) -> None:
    states = torch.tensor([[[1.0, 0], [0, 1], [9, 9]]])
    mask = torch.tensor([[1, 1, 0]])
    if padded == "left":
        states, mask = states.roll(1, dims=1), mask.roll(1, dims=1)
    base = SimpleNamespace(last_hidden_state=states)
    model = SimpleNamespace(base_model=lambda **_: base)
    batch: Any = {"input_ids": mask, "attention_mask": mask}
    assert Embeddings("weighted").read(model, batch)[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert Embeddings().read(model, batch)[0].tolist() == [0.5, 0.5]


def test_poolings_are_told_apart_and_the_plain_mean_is_known_as_ever() -> None:
    assert Embeddings().fingerprint(EXTRACTION) == {"signal": "embeddings"}
    assert TargetEmbeddings().fingerprint(EXTRACTION) == {"signal": "target embeddings"}
    for signal in (Embeddings("weighted"), TargetEmbeddings("weighted")):
        assert signal.fingerprint(EXTRACTION)["pooling"] == "weighted"


@pytest.mark.parametrize("signal", [Embeddings(), Embeddings("weighted")])
def test_targets_are_pooled_as_the_pool_is(
    checkpoint: Checkpoint, renderer: Renderer, signal: Embeddings, tmp_path: Path
) -> None:
    of_targets = TargetEmbeddings(signal.pooling)
    source = source_of(checkpoint, renderer, EXTRACTION, ROWS, of_targets)
    source = replace(source, trainer={"accelerator": "cpu", "enable_progress_bar": False})
    of_targets.build(tmp_path, source)
    whole = values(checkpoint, renderer, signal, tmp_path / "pool")
    assert of_targets.load(tmp_path, source) == pytest.approx(whole[2:], abs=1e-5)


def test_ratings_are_probabilities_behind_each_request(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    found = values(checkpoint, renderer, Ratings(REQUESTS), tmp_path)
    assert found.shape == (5, 2, 5)
    for row, ratings in zip(ROWS, found, strict=True):
        for request, p in zip(REQUESTS, ratings, strict=True):
            asked = request.format(instruction=row.instruction, response=row.response)
            text = f"### Instruction:\n{asked}\n\n### Response:\n"
            ids = renderer.prompt_ids(text)
            shares = logits(checkpoint, ids)[-1].softmax(dim=-1)
            grades = [renderer.tokenizer.convert_tokens_to_ids(level) for level in "12345"]
            assert p == pytest.approx(shares[grades].numpy(), rel=1e-4)


@pytest.mark.parametrize("dimension", [None, 8])
def test_token_information_is_the_moment_of_what_predicts_the_response(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path, dimension: int | None
) -> None:
    found = square(values(checkpoint, renderer, TokenInformation(dimension), tmp_path))
    for row, moment in zip(ROWS, found, strict=True):
        [example] = renderer.encode([row])
        with torch.no_grad():
            states = checkpoint.load()(
                input_ids=torch.tensor([example.ids]), output_hidden_states=True
            ).hidden_states[-1][0, example.start - 1 : -1]
        exact = (states.T @ states).numpy()
        if dimension is None:
            assert moment == pytest.approx(exact, rel=1e-4, abs=1e-4)
        else:  # a projection keeps the trace on average
            assert moment.shape == (8, 8)
            assert np.trace(moment) == pytest.approx(np.trace(exact), rel=0.6)


@pytest.mark.parametrize(
    "signal",
    [
        Losses(),
        Embeddings(),
        Embeddings("weighted"),
        Ratings(REQUESTS),
        TokenInformation(None),
    ],
)
def test_the_size_of_batches_changes_nothing(
    checkpoint: Checkpoint, renderer: Renderer, signal: Signal, tmp_path: Path
) -> None:
    one, three, all_at_once = (
        values(checkpoint, renderer, signal, tmp_path / str(size), size) for size in (1, 3, 16)
    )
    assert three == pytest.approx(one, rel=1e-5, abs=1e-5)
    assert all_at_once == pytest.approx(one, rel=1e-5, abs=1e-5)


def test_a_row_that_does_not_fit_stays_unknown(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    rows = identify([*ROWS, Row("", "x" * 200, "", "y", "a")])
    for signal in (Losses(), Ratings(REQUESTS)):
        found = values(checkpoint, renderer, signal, tmp_path / str(id(signal)), rows=rows)
        assert np.isnan(found[-1]).all()
        assert np.isfinite(found[:-1]).all()


def test_a_lost_shard_is_read_again_and_no_other(
    checkpoint: Checkpoint, renderer: Renderer, tmp_path: Path
) -> None:
    whole = values(checkpoint, renderer, Losses(), tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) == 5  # ten texts, two to a shard
    shards[1].unlink()
    said: list[str] = []
    again = values(checkpoint, renderer, Losses(), tmp_path, said=said)
    assert (again == whole).all()
    assert said[-1] == "4 of 5 shards are there already"
    assert json.loads((tmp_path / "metadata.json").read_text())["signal"] == "losses"
