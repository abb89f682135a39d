"""What decides a signal: also the code and the libraries that it is read through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compose import begun
from halves import slow_but

from spice.storage import closure

SMALL = ["data.size=40", "budget=4", "finetune=none", "trainer=cpu", "logger=csv"]
LESS = ["selector=less", "benchmarks=sandbox"]
EXPERIENCED = ["selector=ifd_experienced"]


def keys(folder: Path, *overrides: str) -> dict[str, Any]:
    run = begun(folder / "run", folder / "cache", *SMALL, *overrides)
    assert run.keyed is not None
    return dict(run.keyed.keys)


@pytest.mark.parametrize(
    ("overrides", "name"), [(LESS, "influence"), (EXPERIENCED, "experienced_losses")]
)
@pytest.mark.parametrize(
    "package", slow_but(["pytorch-lightning", "scikit-learn", "torch"], ["torch"])
)
def test_another_version_of_what_a_warm_up_runs_through_makes_it_anew(
    overrides: list[str], name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(tmp_path, *overrides)[name]
    monkeypatch.setattr(closure, "versions", lambda: {**versions, package: "999"})
    assert keys(tmp_path, *overrides)[name] != before


versions = dict(closure.versions())


@pytest.mark.parametrize("signal", ["influence", "experience"])
@pytest.mark.parametrize(
    "source", ["training/finetune.py", "training/recipe.py", "data/batches.py"]
)
def test_an_edit_to_the_training_makes_what_was_read_through_it_anew(
    signal: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"spice.signals.{signal}"
    before = closure.code_version(module), closure.code_version("spice.signals.losses")
    read = Path.read_bytes

    def edited(path: Path) -> bytes:
        return read(path) + (b"\n# an edit" if path.match(f"spice/{source}") else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert closure.code_version(module) != before[0]
    plain = closure.code_version("spice.signals.losses")  # read as the proxy is
    assert (plain != before[1]) == source.startswith("data")


def test_how_a_rows_loss_is_put_together_decides_its_influence(tmp_path: Path) -> None:
    mean, total = (
        keys(tmp_path, *LESS, f"gradients.reduction={way}")["influence"] for way in ("mean", "sum")
    )
    assert mean != total
