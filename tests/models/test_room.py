"""Batches that fit the memory there is: chosen beforehand, and halved by a real allocator."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from spice.data.batch_limit import BatchLimit
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.models import memory
from spice.models.lora import Lora
from spice.models.memory import chosen
from spice.models.room import Room

FOUND = memory.Footprint(
    kept=1000.0, recomputed=100.0, passing=10.0, cached=30.0, fixed=10**6, row=5000
)


def llama(**changed: Any) -> Any:
    """A tiny one."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50,
             "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**sizes | changed)).eval()


# -- what is chosen --------------------------------------------------------------------------------


@given(st.integers(10**5, 10**11), st.integers(1, 64), st.sampled_from(["cpu", "cuda"]))
def test_what_is_chosen_fits_the_share_or_is_one_token(free: int, rows: int, where: str) -> None:
    for kind, per_token in (("passing", 10.0), ("writing", 40.0), ("learning", 100.0)):
        found = chosen(BatchLimit(rows), FOUND, free, where, kind)  # type: ignore[arg-type]
        assert found.tokens
        assert found.tokens >= 1
        if (kind, where) != ("writing", "cuda"):
            assert found.tokens <= memory.MOST[where]
        assert found.rows == 1 or found.rows * FOUND.row <= memory.OF_ROWS * memory.SHARE * free
        if kind == "learning":
            assert found.recomputed
            per_token = 1000.0 if found.tokens <= found.recomputed else 100.0
        needed = FOUND.peak(found.rows, found.tokens, per_token)
        assert needed <= memory.SHARE * free + 1 or found.tokens == 1


def test_activations_are_kept_unless_batches_grow_too_small_for_it() -> None:
    much, some, little = (
        chosen(BatchLimit(1), FOUND, int(2 * (10**6 + 5000 + 1.15 * n)), "cpu", "learning")
        for n in (5_000_000, 1_100_000, 50_000)
    )
    assert (much.tokens, much.recomputed) == (2048, 5000)
    assert (some.tokens, some.recomputed) == (1100, 1100)
    assert (little.tokens, little.recomputed) == (500, 50)


def test_rows_are_fewer_where_each_needs_much() -> None:
    large = dataclasses.replace(FOUND, row=10**8)
    found = chosen(BatchLimit(64), large, 2 * 10**9, "cuda", "learning")
    assert found.rows == 2
    assert found.tokens == memory.MOST["cuda"]
    assert chosen(BatchLimit(64), large, 10**7, "cuda", "learning").rows == 1


def test_a_gpu_writes_as_many_rows_as_fit() -> None:
    for where, tokens in (("cpu", 2048), ("cuda", int((10**9 - 10**6 - 5000 * 64) / (1.15 * 40)))):
        assert chosen(BatchLimit(64), FOUND, 2 * 10**9, where, "writing") == BatchLimit(64, tokens)


def test_what_is_given_stays() -> None:
    given = BatchLimit(3, 70, 20)
    assert chosen(given, FOUND, 1, "cpu", "learning") == given
    assert chosen(given, FOUND, 10**12, "cuda", "learning") == given


def test_what_is_kept_is_counted_from_the_model() -> None:
    """It grows with the layers; a token of one more keeps what the layer's shape says."""
    few, more = (memory.footprint(llama(num_hidden_layers=n)) for n in (2, 3))
    layer = more.kept - few.kept
    #: in, normed twice, q, k, v, attended, out; gate, its activation, up and their product
    assert 4 * (6 * 32 + 3 * 48) < layer < 4 * (20 * 32 + 8 * 48)
    adapted = Lora(r=4, alpha=8, dropout=0.5, targets="all-linear").attach(llama(), 0)
    assert memory.footprint(adapted.train()).kept > memory.footprint(adapted.eval()).kept
    assert few.recomputed < few.kept
    assert few.cached == 2 * 2 * 2 * 8 * 4


def test_nothing_is_left_of_the_count() -> None:
    """What a pass keeps holds its own history, and once kept itself alive for good."""
    model = llama()
    memory.footprint(model)
    gc.collect()
    left = [kept for kept in gc.get_objects() if type(kept) is torch.Tensor and 64 in kept.shape]
    assert not left


def test_weights_that_come_and_go_are_no_part_of_the_count() -> None:
    """As those of a divided layer do: their bytes lie elsewhere each time."""
    model, whole = llama(), memory.footprint(llama())
    for layer in model.model.layers:
        for weight in layer.parameters():
            kept = weight.detach().clone()
            storage = weight.untyped_storage()
            storage.resize_(0)

            def fill(*_: Any, weight: Any = weight, kept: Any = kept) -> None:
                weight.data.untyped_storage().resize_(kept.nbytes)
                weight.data.copy_(kept)

            def empty(*_: Any, storage: Any = storage) -> None:
                storage.resize_(0)

            layer.register_forward_pre_hook(fill)
            layer.register_forward_hook(empty)
    assert memory.footprint(model) == whole


# -- what is free ----------------------------------------------------------------------------------


def group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_control_groups_of_the_second_kind_are_asked_up_to_the_root(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/job/step\n")
    stat = "anon 5\ninactive_file 30"
    group(root / "job/step", memory__max="max", memory__current=70, memory__stat=stat)
    group(root / "job", memory__max=1000, memory__current=400, memory__stat=stat)
    assert list(memory._left_by_groups(root, own)) == [630]


def test_control_groups_of_the_first_kind(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("12:cpu,cpuacct:/\n9:memory:/slurm/job\n1:name=systemd:/\n")
    files = {"memory__limit_in_bytes": 500, "memory__usage_in_bytes": 450}
    group(root / "memory/slurm/job", **files, memory__stat="inactive_file 1\ntotal_inactive_file 9")
    assert list(memory._left_by_groups(root, own)) == [59]
    assert list(memory._left_by_groups(root, tmp_path / "none")) == []


def test_there_is_memory_here_and_not_more_than_the_machine_has() -> None:
    import psutil

    assert 2**20 < memory.free("cpu") <= psutil.virtual_memory().total


# -- parts -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 90))
def test_parts_are_the_batch_in_its_order(lengths: list[int], rows: int, tokens: int) -> None:
    lengths.sort(reverse=True)
    batch = pad([Example([5] * n, n // 2) for n in lengths], range(len(lengths)), 0)
    room = object.__new__(Room)
    room.limit = BatchLimit(rows, tokens)
    parts = room.parts(lambda part: part, batch)
    assert [row for part in parts for row in part["rows"]] == list(range(len(lengths)))
    for part in parts:
        b, t = part["input_ids"].shape
        assert b <= rows
        assert b * t <= tokens or b == 1
        assert t == max(lengths[row] for row in part["rows"])


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    room = object.__new__(Room)
    room.limit = BatchLimit(4, 100)
    with pytest.raises(RuntimeError, match="shapes"):
        room.of_lengths(lambda rows: (_ for _ in ()).throw(RuntimeError("shapes")), [3, 3])


# -- a real allocator that has no more -------------------------------------------------------------

SCRIPT = Path(__file__).with_name("memory_short.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
@pytest.mark.parametrize(
    "what",
    ["learning", "gradients", "losses", "choices"],
)
def test_what_does_not_fit_is_halved_and_gives_the_same(what: str) -> None:
    done = _short(what)
    assert done.returncode == 0, done.stderr
    assert "did not fit, going on with" in done.stderr
    assert "the same" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_one_row_that_does_not_fit_is_refused_with_the_ways_out() -> None:
    done = _short("one row")
    assert done.returncode == 2, done.stderr
    assert "did not fit, going on with activations computed twice" in done.stderr
    assert "a row of 4,000 tokens does not fit the memory" in done.stderr
    assert "template.max_tokens" in done.stderr
    assert "Traceback" not in done.stderr


def _short(what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), what],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"},
    )
