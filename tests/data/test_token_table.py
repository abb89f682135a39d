"""Tokens on disk are the tokens that were made, however many processes made them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from halves import slow_but
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.data import tokenising
from spice.data.batches import length_order
from spice.data.identity import identify
from spice.data.pool import Pool
from spice.data.rendering import Example
from spice.data.template import Template
from spice.data.token_table import TokenTable, eligible_rows, lengths, pack, supervised, write_table
from spice.data.tokenising import lost_rows, tokenise
from spice.models.checkpoint import Checkpoint
from spice.models.tokenized import renderer, tokenize
from spice.records import Row


@st.composite
def examples(draw: st.DrawFn) -> Example:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), max_size=12))
    edges = sorted(draw(st.sets(st.integers(0, len(ids)), max_size=5)))
    start, *inner = edges or [0]
    gaps = tuple(zip(inner[::2], inner[1::2], strict=False))
    return Example(ids, start, draw(st.booleans()), gaps)


@settings(max_examples=60)
@given(st.lists(st.lists(examples(), max_size=4), max_size=4))
def test_a_table_holds_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Example]]
) -> None:
    folder, whole = tmp_path_factory.mktemp("table"), [e for part in parts for e in part]
    write_table(folder, (pack(part) for part in parts))
    table = TokenTable(folder)
    assert list(table) == whole
    assert table[:] == whole
    assert table[1::2] == whole[1::2]
    assert lengths(table).tolist() == lengths(whole).tolist() == [len(e.ids) for e in whole]
    assert supervised(table).tolist() == supervised(whole).tolist()
    assert eligible_rows(table) == eligible_rows(whole)
    order = range(len(whole))
    assert np.array_equal(length_order(table, order), length_order(whole, order))
    assert list(pickle.loads(pickle.dumps(table))) == whole
    if whole:
        assert table[-1] == whole[-1]
        assert table[len(whole) - 1].ids == whole[-1].ids
    with pytest.raises(IndexError):
        table[len(whole)]


def a_row(i: int) -> Row:
    history = (("hi", "there"), ("and", "then")) if i % 3 == 0 else ()
    return Row("", f"Say {i}" + " x" * (i % 40), "", f"It is {i}" * (i % 5), "s", history)


ROWS = identify(a_row(i) for i in range(120))


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Checkpoint:
    return Checkpoint(str(make_checkpoint("llama")), "float32")


def template(**changed: Any) -> Template:
    from compose import composed

    from spice.pipeline.components import make

    return make(composed(*(f"template.{k}={v}" for k, v in changed.items())), "template")


@pytest.mark.parametrize("workers", [1, *slow_but([2, 3], [])])
def test_how_many_processes_make_them_changes_nothing(
    checkpoint: Checkpoint, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenising, "FEW", 0)
    monkeypatch.setattr(tokenising, "PART", 7)
    reader = renderer(checkpoint, template(max_tokens=40))
    expected, lost = reader.attempt(ROWS)
    make = partial(renderer, checkpoint, template(max_tokens=40))
    parts = list(tokenise(ROWS, reader, make, workers))
    write_table(tmp_path, (part.tokens for part in parts))
    assert list(TokenTable(tmp_path)) == expected
    assert lost_rows([part.lost for part in parts]) == lost


def test_a_stage_of_tokens_is_what_memory_would_hold(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    pool, made = Pool(ROWS), []

    def keep(key: dict[str, Any], build: Callable[[Path], None]) -> Path:
        folder = tmp_path / "tokens"
        if not folder.is_dir():
            folder.mkdir()
            build(folder)
        made.append(key)
        return folder

    plain = tokenize(checkpoint, template(), pool, tmp_path / "memo")
    for _ in range(2):
        kept = tokenize(checkpoint, template(), pool, tmp_path / "memo", keep)
        assert list(kept.examples) == list(plain.examples)
        assert (kept.audit, kept.view) == (plain.audit, plain.view)
    assert made[0] == made[1]
    other = tokenize(checkpoint, template(max_tokens=9), pool, tmp_path / "memo", keep)
    assert made[2] != made[0]
    assert other.examples


KILLED = """
import sys, time
from functools import partial
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from spice.data import tokenising
from spice.records import Row

class Slow:
    def attempt(self, rows):
        print("at work", flush=True)
        time.sleep(60)

def make():
    return Slow()

if __name__ == "__main__":
    tokenising.FEW, tokenising.PART = 0, 1
    rows = [Row("x", "a", "", "b", "s")] * 20
    list(tokenising.tokenise(rows, None, make, 2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_one_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    path = os.pathsep.join(sys.path)
    run = subprocess.Popen(
        [sys.executable, str(script), "x", *sys.path], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == b"at work\n"
    family = psutil.Process(run.pid).children(recursive=True)
    time.sleep(0.2)
    run.send_signal(number)
    run.wait()
    assert not psutil.wait_procs(family, timeout=5)[1]
