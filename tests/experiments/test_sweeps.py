"""Which sweep waits for which."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import sweeps


def test_a_job_waits_for_the_one_that_it_comes_after(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"

    def writes() -> list[str]:
        return ["mkdir", "-p", str(one)]

    def copies() -> list[str]:  # made when it is its turn: the folder is there
        return ["cp", "-r", str(*tmp_path.glob("one")), str(other)]

    sweeps.run_all({one: writes, other: copies}, workers=2, after={other: one})
    assert other.is_dir()


def test_a_failed_sweep_ends_the_study(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="returned non-zero"):
        sweeps.run_all({tmp_path / "a": lambda: ["false"]}, workers=1)
