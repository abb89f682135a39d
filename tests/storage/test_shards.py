"""A shard is whole or absent, and what was made of other things is never read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spice.errors import InputError
from spice.selectors.scaling import Scaled
from spice.storage.files import publish
from spice.storage.shards import ShardStore
from spice.submodular.kernel import Subset, squared_norms

IDS = [f"row-{i}" for i in range(10)]
PLAN = [np.array([7, 2, 0]), np.array([1, 9]), np.array([4])]  # 3, 5, 6 and 8 have no gradient
VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def a_store(folder: Path, metadata: dict[str, Any] | None = None, **changes: Any) -> ShardStore:
    made: dict[str, Any] = {"ids": IDS, "plan": PLAN, "dimension": 3, "dtype": "float32"} | changes
    return ShardStore(folder, metadata or {"model": "m", "loss": {"mean": True}}, **made)


def filled(folder: Path, **changes: Any) -> ShardStore:
    store = a_store(folder, **changes)
    store.open()
    for shard in store.missing():
        store.write(shard, VALUES[PLAN[shard]])
    return store


def shards(folder: Path) -> list[Path]:
    """The files of the shards, in the order of the plan."""
    return [a_store(folder)._path(shard) for shard in range(len(PLAN))]


def test_every_row_comes_back_at_its_place(tmp_path: Path) -> None:
    found = filled(tmp_path).read()
    assert found.dtype == np.float32
    rows = np.concatenate(PLAN)
    assert np.array_equal(found[rows], VALUES[rows])


def test_rows_of_no_shard_are_nan(tmp_path: Path) -> None:
    assert np.flatnonzero(np.isnan(filled(tmp_path).read()).all(axis=1)).tolist() == [3, 5, 6, 8]


def test_a_store_can_be_empty(tmp_path: Path) -> None:
    store = a_store(tmp_path, plan=[])
    store.open()
    assert store.missing() == []
    assert store.bytes() == 0
    assert np.isnan(store.read()).all()


def test_shards_are_found_again_by_another_run(tmp_path: Path) -> None:
    first = a_store(tmp_path)
    first.open()
    first.write(1, VALUES[PLAN[1]])
    again = a_store(tmp_path)
    again.open()
    assert again.missing() == [0, 2]
    assert [again.shard_of(row) for row in (7, 0, 9, 4)] == [0, 0, 1, 2]


def test_values_of_another_shape_are_not_written(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.open()
    with pytest.raises(ValueError, match=r"shard 0 must have the shape \(3, 3\), not \(2, 3\)"):
        store.write(0, VALUES[:2])
    assert store.missing() == [0, 1, 2]


def test_values_are_kept_as_float32_whatever_they_come_as(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.open()
    for shard, rows in enumerate(PLAN):
        store.write(shard, np.asfortranarray(VALUES[rows].astype(np.float64)))
    assert np.array_equal(store.read(), filled(tmp_path / "other").read(), equal_nan=True)


# -- damage ----------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda content: b"",
    "half the header": lambda content: content[:20],
    "all but a byte": lambda content: content[:-1],
    "a byte too much": lambda content: content + b"x",
    "noise": lambda content: b"\x99" * len(content),
    "a bit of a number": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    "zeros": lambda content: content[:-8] + bytes(8),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_shard_is_found_and_made_again(tmp_path: Path, kind: str) -> None:
    store = filled(tmp_path)
    path = shards(tmp_path)[1]
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    assert store.missing() == [1]
    store.write(1, VALUES[PLAN[1]])
    assert path.read_bytes() == whole
    assert store.missing() == []


def test_a_shard_under_anothers_name_is_not_taken_for_it(tmp_path: Path) -> None:
    """Neither one of other rows nor one of another store."""
    filled(tmp_path)
    other = a_store(tmp_path / "other", {"model": "another"})
    other.open()
    other.write(2, VALUES[PLAN[2]])
    (foreign,) = (tmp_path / "other").glob("*.safetensors")
    first, second, third = shards(tmp_path)
    second.write_bytes(first.read_bytes())
    third.write_bytes(foreign.read_bytes())
    assert a_store(tmp_path).missing() == [1, 2]


def test_the_names_know_metadata_and_rows(tmp_path: Path) -> None:
    names = {
        tuple(path.name for path in map(store._path, range(len(PLAN))))
        for store in (
            a_store(tmp_path),
            a_store(tmp_path, {"model": "another"}),
            a_store(tmp_path, dimension=4),
            a_store(tmp_path, ids=IDS[::-1]),
            a_store(tmp_path, plan=[rows[::-1] for rows in PLAN[:2]] + PLAN[2:]),
        )
    }
    assert len(names) == 5


# -- crashes ---------------------------------------------------------------------------------


class CrashError(Exception):
    pass


def test_a_crash_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    def crash(path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise CrashError

    for known in (None, "whole"):
        if known:
            publish(tmp_path / "file", lambda path: path.write_text("whole"))
        with pytest.raises(CrashError):
            publish(tmp_path / "file", crash)
        assert (tmp_path / "file").exists() == bool(known)
    assert (tmp_path / "file").read_text() == "whole"


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_shards import PLAN, VALUES, a_store

store = a_store(Path(sys.argv[1]))
store.open()
store.write(0, VALUES[PLAN[0]])
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
store.write(1, VALUES[PLAN[1]])
"""


def test_a_kill_between_writing_and_renaming_loses_that_shard_alone(tmp_path: Path) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(here)],
        cwd=here.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.glob("*.partial-*"))) == 1
    store = a_store(tmp_path)
    assert store.missing() == [1, 2]
    store.open()
    assert not list(tmp_path.glob("*.partial-*"))
    for shard in store.missing():
        store.write(shard, VALUES[PLAN[shard]])
    assert np.array_equal(store.read(), filled(tmp_path / "other").read(), equal_nan=True)


# -- metadata and space ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "changes", "keys"),
    [
        ({"model": "another", "loss": {"mean": True}}, {}, "model"),
        ({"model": "m", "loss": {"mean": False}}, {}, "loss"),
        ({"model": "m"}, {}, "loss"),
        ({"model": "m", "loss": {"mean": True}, "scale": 1}, {}, "scale"),
        ({"model": "m", "loss": {"mean": True}}, {"dimension": 4}, "dimension"),
        ({"model": "another", "loss": None, "scale": 1}, {}, "loss, model, scale"),
    ],
)
def test_a_store_of_other_things_is_refused_with_the_keys_that_differ(
    tmp_path: Path, metadata: dict[str, Any], changes: dict[str, Any], keys: str
) -> None:
    store = filled(tmp_path)
    with pytest.raises(InputError) as caught:
        a_store(tmp_path, metadata, **changes).open()
    assert f"made with other metadata ({keys} differ)" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert store.missing() == []  # and nothing of it is touched


def test_metadata_may_hold_what_json_writes_differently(tmp_path: Path) -> None:
    filled(tmp_path / "s", metadata={"targets": ("q", "v"), 3: None})
    again = a_store(tmp_path / "s", {3: None, "targets": ["q", "v"]})
    again.open()
    assert again.missing() == []


def test_what_the_disk_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    store = a_store(tmp_path, dimension=10**14)
    store.open()
    with pytest.raises(InputError, match=r"needs 2,400\.0 TB \(10 rows × 100,000,000,000,000 c"):
        store.check_space()


def test_only_what_is_missing_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(tmp_path)
    store.open()
    store.write(0, VALUES[PLAN[0]])
    for free, enough in [(35, False), (36, True)]:  # for 3 rows of 3 coordinates of 4 bytes
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        with monkeypatch.context() as disk:
            disk.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
            if enough:
                store.check_space()
            else:
                with pytest.raises(InputError, match=r"needs 36 bytes .* 35 bytes are free"):
                    store.check_space()


def test_the_record_says_what_the_values_are(tmp_path: Path) -> None:
    filled(tmp_path)
    record = json.loads((tmp_path / "metadata.json").read_text())
    assert record == {"model": "m", "loss": {"mean": True}, "dimension": 3}
    assert filled(tmp_path).bytes() == sum(os.path.getsize(path) for path in shards(tmp_path))


def test_rows_stay_on_disk_until_they_are_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path)
    rows, whole = store.rows(), store.read()
    assert (rows.shape, len(rows), rows.dtype) == (whole.shape, len(whole), whole.dtype)
    some = np.array([9, 3, 7, 7, 0])
    asked: list[Any] = [
        slice(None), slice(2, 8), slice(0, 0), some,
        (some, slice(1, 3)), (slice(None), slice(0, 2)),
    ]  # fmt: skip
    for which in asked:
        np.testing.assert_array_equal(rows[which], whole[which])
    parts = [part for shard in rows.shards for part in shard.values()]
    assert all(isinstance(part, np.memmap) for part in parts)


def test_a_row_of_a_subset_is_scaled_by_its_own_factor(tmp_path: Path) -> None:
    rows, whole = filled(tmp_path).rows(), filled(tmp_path).read()
    factors = np.arange(10.0)
    some = Subset(Scaled(rows, factors, factors**2), np.array([9, 1, 4]))
    expected = (whole * factors[:, None].astype(np.float32))[[9, 1, 4]]
    np.testing.assert_array_equal(some[:], expected)
    np.testing.assert_array_equal(some[np.array([2, 0]), 1:], expected[[2, 0], 1:])
    np.testing.assert_array_equal(squared_norms(some), [81, 1, 16])
