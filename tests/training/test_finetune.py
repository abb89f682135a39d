"""Fine-tuning: what it trains, what its steps mean, and that an interrupted run loses nothing."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from spice import stopping
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.training.finetune import finetune, pace
from spice.training.recipe import Recipe

RECIPE = Recipe(
    epochs=2,
    max_steps=None,
    learning_rate=1e-2,
    decay="cosine",
    warmup_ratio=0.25,
    weight_decay=0.01,
    clip=1.0,
    batch_size=5,
    micro_batch_size=2,
    checkpoint_every=1,
)
#: thirteen rows: a response repeats its prompt's last token, some longer, some shorter
EXAMPLES = [Example([9, 20 + i, *[20 + i] * (i % 5 + 1), 2], 2) for i in range(13)]
ROWS = [12, *range(11)]


def train(
    checkpoint: Path,
    folder: Path,
    callbacks: Sequence[pl.Callback] = (),
    rows: Sequence[int] = ROWS,
    dropout: float = 0.3,
    precision: str = "32-true",
    **changed: Any,
) -> tuple[Any, dict[str, Any]]:
    """Fine-tune a tiny model; returns it and what ``finetune`` says."""
    lora = Lora(r=4, alpha=8, dropout=dropout, targets="all-linear")
    made = PerRank(partial(lora.put_on, Checkpoint(str(checkpoint), "float32"), 3))
    facts = finetune(
        made,
        dataclasses.replace(RECIPE, **changed),
        EXAMPLES,
        rows,
        folder=folder,
        pad_id=0,
        seed=11,
        trainer={
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": list(callbacks),
            "precision": precision,
        },
    )
    return made(), facts


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("llama")


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Watch(pl.Callback):
    """Records gradients before and after clipping, rates, modes; ``act`` hears the steps done."""

    def __init__(self, act: Callable[[int], None] = lambda step: None) -> None:
        self.act = act
        self.gradients: list[torch.Tensor] = []
        self.clipped: list[float] = []
        self.rates: list[float] = []
        self.training: list[bool] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *rest: Any) -> None:
        self.act(trainer.global_step)
        self.training.append(all(part.training for part in module.model.modules()))

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        tokens = module.step_tokens[trainer.global_step]
        self.gradients.append(
            torch.cat([total.flatten().float() / tokens for total in module.slopes.sums])
        )
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if any(p.grad is not None for p in module.model.parameters()):
            self.clipped.append(float(flat_gradient(module.model).norm()))


def flat_gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# -- what is trained ---------------------------------------------------------------------------


def test_only_the_adapter_changes_and_the_loss_falls(checkpoint: Path, tmp_path: Path) -> None:
    before = Checkpoint(str(checkpoint), "float32").load()
    model, facts = train(checkpoint, tmp_path, epochs=8)
    after = model.unload()
    assert all(
        torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
    )
    batch = pad(EXAMPLES, ROWS, 0)
    tuned = PeftModel.from_pretrained(
        Checkpoint(str(checkpoint), "float32").load(), tmp_path / "adapter"
    )
    with torch.no_grad():
        first, last = (response_nll(m.eval(), batch)[0].mean() for m in (before, tuned))
    assert last < 0.7 * first
    assert facts["steps"] == 20  # eight epochs of twelve rows, in steps of five
    assert facts["rows"] == 12


def test_the_adapter_loads_with_peft_and_gives_the_same_logits(
    checkpoint: Path, tmp_path: Path
) -> None:
    model, _ = train(checkpoint, tmp_path)
    base = Checkpoint(str(checkpoint), "float32").load()
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        ours, theirs = model.eval()(input_ids=ids).logits, loaded(input_ids=ids).logits
        untuned = Checkpoint(str(checkpoint), "float32").load()(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, untuned, atol=1e-2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "checkpoints"]


def test_dropout_is_active_while_training(checkpoint: Path, tmp_path: Path) -> None:
    watch = Watch()
    train(checkpoint, tmp_path / "wet", [watch], dropout=0.3)
    train(checkpoint, tmp_path / "dry", dropout=0.0)
    assert watch.training
    assert all(watch.training)
    assert not same(adapter(tmp_path / "wet"), adapter(tmp_path / "dry"))


def test_the_same_seed_gives_the_same_adapter(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.manual_seed(len(name))
        train(checkpoint, tmp_path / name)
    assert same(adapter(tmp_path / "one"), adapter(tmp_path / "two"))


# -- what a step is ----------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 50])
def test_a_step_is_the_mean_over_its_tokens_however_it_is_split(
    checkpoint: Path, tmp_path: Path, micro: int
) -> None:
    """The third and last step has only two rows, and so fewer micro-batches than the others."""
    watch = Watch()
    train(checkpoint, tmp_path, [watch], dropout=0.0, epochs=1, micro_batch_size=micro)
    plan = RECIPE.plan(ROWS, 11)
    assert len(watch.gradients) == 3
    lora = Lora(r=4, alpha=8, dropout=0.0, targets="all-linear")
    model = lora.attach(Checkpoint(str(checkpoint), "float32").load(), 3)
    nll, count = response_nll(model, pad(EXAMPLES, plan.steps[0], 0))
    (nll.sum() / count.sum()).backward()
    expected = flat_gradient(model)
    assert (watch.gradients[0] - expected).norm() < 1e-5 * expected.norm()
    assert watch.gradients[2].norm() < 3 * expected.norm()


@pytest.mark.parametrize("micro", [1, 3, 50])
def test_dropout_is_the_same_however_a_step_is_split(
    checkpoint: Path, tmp_path: Path, micro: int
) -> None:
    whole, split = Watch(), Watch()
    train(checkpoint, tmp_path / "whole", [whole], micro_batch_size=5)
    train(checkpoint, tmp_path / "split", [split], micro_batch_size=micro)
    for one, other in zip(whole.gradients, split.gradients, strict=True):
        assert (one - other).norm() < 1e-3 * one.norm()  # a few steps on
    assert (whole.gradients[0] - split.gradients[0]).norm() < 1e-5 * whole.gradients[0].norm()
    assert RECIPE.fingerprint() == dataclasses.replace(RECIPE, micro_batch_size=4).fingerprint()


def test_gradients_are_clipped_once_per_step(checkpoint: Path, tmp_path: Path) -> None:
    watch = Watch()
    train(checkpoint, tmp_path, [watch], clip=0.01)
    assert min(float(g.norm()) for g in watch.gradients) > 0.01
    assert watch.clipped
    assert max(watch.clipped) <= 0.01 * (1 + 1e-4)


def test_the_loss_that_is_shown_is_per_token(checkpoint: Path, tmp_path: Path) -> None:
    """The last step is a single row in a run of four micro-batches a step."""
    shape = {"batch_size": 4, "micro_batch_size": 1, "epochs": 1}
    model, facts = train(
        checkpoint, tmp_path, rows=range(5), dropout=0.0, learning_rate=1e-9, **shape
    )
    last = dataclasses.replace(RECIPE, **shape).plan(range(5), 11).steps[-1]
    assert len(last) == 1
    nll, count = response_nll(model.eval(), pad(EXAMPLES, last, 0))
    assert facts["final_loss"] == pytest.approx((nll.sum() / count.sum()).item(), rel=1e-4)


def test_the_rate_warms_up_and_falls_along_a_cosine(checkpoint: Path, tmp_path: Path) -> None:
    watch = Watch()
    train(checkpoint, tmp_path, [watch], max_steps=4)
    # of four steps one warms up; the others are at 0, 1/3 and 2/3 of the cosine
    assert watch.rates == pytest.approx([1e-2, 1e-2, 0.75e-2, 0.25e-2])


def test_the_rate_goes_up_in_a_line_and_down_half_a_wave_or_in_a_line() -> None:
    third = dataclasses.replace(RECIPE, warmup_ratio=1 / 3)
    assert [pace(step, 12, third) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    wave = [pace(step, 12, third) for step in (4, 8, 10, 12, 50)]
    assert wave == pytest.approx([1.0, 0.5, 0.5 * (1 - 2**-0.5), 0.0, 0.0])
    line = [pace(step, 12, dataclasses.replace(third, decay="linear")) for step in (4, 6, 8, 12)]
    assert line == pytest.approx([1.0, 0.75, 0.5, 0.0])
    assert pace(0, 1, dataclasses.replace(RECIPE, warmup_ratio=0.0)) == 1.0
    assert pace(2, 3, dataclasses.replace(RECIPE, warmup_ratio=1.0)) == 1.0


def test_each_epoch_sees_each_row_once() -> None:
    plan = dataclasses.replace(RECIPE, epochs=3).plan(ROWS, 0)
    seen = [row for step in plan.steps for row in step]
    for epoch in range(3):
        assert sorted(seen[12 * epoch : 12 * epoch + 12]) == sorted(ROWS)
    assert seen[:12] != seen[12:24]
    assert len(dataclasses.replace(RECIPE, epochs=3, max_steps=2).plan(ROWS, 0).steps) == 2


def test_mixed_bfloat16_runs_on_the_processor(checkpoint: Path, tmp_path: Path) -> None:
    _, facts = train(checkpoint, tmp_path, precision="bf16-mixed", epochs=1)
    assert facts["final_loss"] < 10
    weights = adapter(tmp_path)
    assert all(w.isfinite().all() and w.dtype == torch.float32 for w in weights.values())


# -- interrupted runs --------------------------------------------------------------------------


def test_checkpoints_hold_the_adapter_alone_and_load_without_pickled_code(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="power cut"):
        train(checkpoint, tmp_path, [Watch(cut_after(2))])
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2
    assert state["state_dict"]
    assert all("lora_" in name for name in state["state_dict"])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(("every", "after"), [(1, 1), (1, 3), (2, 3), (2, 4)])
def test_an_interrupted_run_ends_with_the_same_adapter_to_the_bit(
    checkpoint: Path, tmp_path: Path, every: int, after: int
) -> None:
    """Rates, Adam's moments, the rows still to come and the draws of dropout are all taken up."""
    train(checkpoint, tmp_path / "whole")
    resumed = Watch()
    with pytest.raises(OSError, match="power cut"):
        train(checkpoint, tmp_path / "cut", [Watch(cut_after(after))], checkpoint_every=every)
    train(checkpoint, tmp_path / "cut", [resumed], checkpoint_every=every)
    assert len(resumed.gradients) == 5 - after // every * every
    assert same(adapter(tmp_path / "cut"), adapter(tmp_path / "whole"))


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_adapter_to_the_bit(
    checkpoint: Path, tmp_path: Path
) -> None:
    train(checkpoint, tmp_path / "whole")
    code = (
        "import os, signal, sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[i]) for i in (0, 1)]!r}\n"
        "from pathlib import Path\n"
        "from test_finetune import Watch, train\n"
        "kill = lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == 3 else None\n"
        f"train(Path({str(checkpoint)!r}), Path({str(tmp_path / 'cut')!r}), [Watch(kill)])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = Watch()
    train(checkpoint, tmp_path / "cut", [resumed])
    assert 0 < len(resumed.gradients) < 5
    assert same(adapter(tmp_path / "cut"), adapter(tmp_path / "whole"))


@pytest.mark.parametrize("asked_at", [0, 2, 4])
def test_a_training_that_is_to_stop_saves_the_step_it_is_in(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_at: int
) -> None:
    """Whole steps alone, each of three micro-batches; the first behind a resumption too."""

    def ask(now: int) -> None:
        if now == asked_at:
            monkeypatch.setattr(stopping._State, "asked", stopping.PREEMPTED)

    _, whole = train(checkpoint, tmp_path / "whole")
    cut, reached = tmp_path / "cut", []
    for act in (ask, lambda now: None):
        with pytest.raises(stopping.Stopped):
            train(checkpoint, cut, [Watch(act)], checkpoint_every=100)
        kept = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)
        reached.append(kept["global_step"])
        if reached[-1] == 5:
            break
    assert reached == [asked_at + 1, asked_at + 2][: 5 - asked_at]
    monkeypatch.setattr(stopping._State, "asked", None)
    _, resumed = train(checkpoint, cut, checkpoint_every=100)
    assert same(adapter(cut), adapter(tmp_path / "whole"))
    assert resumed == whole


def cut_after(step: int) -> Callable[[int], None]:
    def act(now: int) -> None:
        if now == step:
            raise OSError("power cut")

    return act


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"micro_batch_size": 0},
        {"checkpoint_every": 0},
        {"max_steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup_ratio": 1.5},
    ],
    ids=str,
)
def test_recipes_out_of_range_are_input_errors(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changed))):
        dataclasses.replace(RECIPE, **changed)


# -- several processes -------------------------------------------------------------------------


@pytest.fixture
def two() -> Iterator[None]:
    team.ask_for(2, False)
    yield
    team.ask_for(1, False)


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {},  # 3, 3 and at the end 2 micro-batches a step: one process comes short
        {"micro_batch_size": 5},  # one a step: a process has nothing to do
        {"micro_batch_size": 1, "batch_size": 4, "clip": 0.01},
        {"max_steps": 2},
    ],
    ids=str,
)
def test_two_processes_take_the_same_steps_as_one(
    checkpoint: Path, tmp_path: Path, two: None, changed: dict[str, Any]
) -> None:
    _, told = train(checkpoint, tmp_path / "two", **changed)
    team.ask_for(1, False)
    _, alone = train(checkpoint, tmp_path / "one", **changed)
    one, other = adapter(tmp_path / "one"), adapter(tmp_path / "two")
    assert far(one, other) < 1e-7
    assert told == {**alone, "final_loss": pytest.approx(alone["final_loss"], abs=1e-5)}


@pytest.mark.slow
@pytest.mark.parametrize("order", [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(
    checkpoint: Path, tmp_path: Path, order: tuple[int, int]
) -> None:
    class CutError(Exception):
        pass

    def cut(step: int) -> None:
        if step == 3:
            raise CutError

    team.ask_for(1, False)
    train(checkpoint, tmp_path / "whole")
    team.ask_for(order[0], False)
    with pytest.raises(CutError):
        train(checkpoint, tmp_path / "cut", callbacks=[Watch(cut)])
    assert (tmp_path / "cut/checkpoints/last.ckpt").is_file()
    team.ask_for(order[1], False)
    train(checkpoint, tmp_path / "cut")
    team.ask_for(1, False)
    assert far(adapter(tmp_path / "whole"), adapter(tmp_path / "cut")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 3, 7])
def test_a_loss_that_is_not_finite_anywhere_stops_all(
    checkpoint: Path, tmp_path: Path, two: None, row: int
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][20 + row] = torch.nan  # a word of this row alone
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"the loss of step \d+ is not finite \(rows {row}\)"):
        train(broken, tmp_path / "tuned")
    assert not (tmp_path / "tuned/adapter").exists()
