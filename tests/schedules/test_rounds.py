"""LEAD's rounds against a plain loop, and runs that are cut short."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spice.data.batch_limit import BatchLimit
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.distributed.per_rank import PerRank
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.records import Signals
from spice.schedules.round_by_round import RoundByRound, choose
from spice.selectors.lead import Lead, Rounds
from spice.signals.experience import Experience
from spice.training.recipe import Recipe

N, K = 30, 9
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
WARMUP: Any = Experience(
    "random",
    0.1,
    None,
    None,
    Lora(4, 8, 0.0, "all-linear"),
    Recipe(1, None, 1e-3, "cosine", 0.0, 0.0, 1.0, 4, 4, 5),
    0,
)
LEAD = Lead(WARMUP, 3, 0.2, 2, 0.3, 0.1, 0.05, 2, 42)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(N):
        length = int(rng.integers(4, 14))
        made.append(Example(rng.integers(4, 90, length).tolist(), int(rng.integers(1, length))))
    return made


def fresh() -> Rounds:
    rng = np.random.default_rng(5)
    losses = rng.uniform(1, 3, (N, 2))
    signals = Signals(
        [f"{i:03}" for i in range(N)], rng.choice(["a", "b"], N).tolist(), np.ones(N),
        losses=losses, experienced_losses=np.sort(losses, axis=1),
    )  # fmt: skip
    return LEAD.begin(signals, K, 1, range(N))


@pytest.fixture
def module(
    make_checkpoint: Callable[..., Path], examples: list[Example], tmp_path: Path
) -> Callable[..., RoundByRound]:
    checkpoint = Checkpoint(str(make_checkpoint("llama")), "float32")

    def start(folder: str, dropout: float = 0.0) -> RoundByRound:
        model = Lora(4, 8, dropout, "all-linear").attach(checkpoint.load(), 7)
        return RoundByRound(
            model,
            fresh(),
            examples,
            limit=BatchLimit(4),
            folder=tmp_path / folder,
            pad_id=0,
            seed=1,
        )

    return start


def test_the_proxy_learns_what_a_plain_loop_would_teach_it(
    module: Callable[..., RoundByRound], examples: list[Example]
) -> None:
    model, rounds = module("other").model, fresh()
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=0.05, weight_decay=0.0)
    last_layer = [p for n, p in trainable.items() if ".1." in n]  # of two layers
    first: dict[int, torch.Tensor] = {}
    last = None

    def losses(rows: list[int]) -> np.ndarray:
        with torch.no_grad():
            pairs = [response_nll(model, pad(examples, [row], 0)) for row in rows]
        return np.array([float(nll[0] / count[0]) for nll, count in pairs])

    def parameters() -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in last_layer])

    while not rounds.done:
        drawn = rounds.draw()
        before, there = losses(drawn.rows), parameters()
        for i in range(0, len(drawn.rows), 2):
            nll, tokens = response_nll(model, pad(examples, drawn.rows[i : i + 2], 0))
            optimizer.zero_grad()
            (nll.sum() / tokens.sum()).backward()
            optimizer.step()
        change = parameters() - there
        cosine = 0.0
        if drawn.cluster in first and last is not None:
            cosine = float(torch.cosine_similarity(first[drawn.cluster], last, dim=0))
        rounds.observe(drawn, before, float((before - losses(drawn.rows)).mean()), cosine)
        first.setdefault(drawn.cluster, change)
        last = change
    ours = module("ours")
    found = choose(PerRank(lambda: ours), QUIET, None)
    assert found.indices == rounds.picks
    assert found.k == len(set(found.indices)) == K
    assert ours.rounds.utilities == pytest.approx(rounds.utilities, rel=1e-3)
    for mine, theirs in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4)


class KilledError(Exception):
    """Stands for a kill in the middle of a round."""


def test_runs_cut_short_anywhere_end_like_one_that_was_not(
    module: Callable[..., RoundByRound], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = choose(PerRank(lambda: module("whole", 0.3)), QUIET, None)
    observe, calls = Rounds.observe, 0

    def cut(self: Rounds, *observed: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:  # the proxy has trained, nothing of this round is kept
            raise KilledError
        observe(self, *observed)

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "observe", cut)
        for _ in range(3):
            with suppress(KilledError):
                choose(PerRank(lambda: module("cut", 0.3)), QUIET, None)
    begun = module("cut", 0.3)
    assert begun.rounds.number == 3
    ended = choose(PerRank(lambda: begun), QUIET, None)
    assert (ended.indices, ended.scores) == (whole.indices, whole.scores)
    for mine, theirs in zip(begun.adapter().values(), module("whole", 0.3).adapter().values(),
                            strict=True):  # fmt: skip
        assert torch.equal(mine, theirs)
