"""The notebooks run from top to bottom on what a small sweep left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import NOTEBOOKS, ROOT, name

import spice

pytestmark = pytest.mark.slow
#: of a notebook that asks for it: what `import spice` has to offer
ASKED = {"select_for_your_own_loop.ipynb": "gradients"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_runs(
    notebook: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    if (asked := ASKED.get(notebook.name)) and asked not in spice.__all__:
        pytest.skip(f"spice.{asked} is not there")
    read = nbformat.read(notebook, as_version=4)
    if any("SPICE_SWEEP" in cell.source for cell in read.cells):
        monkeypatch.setenv("SPICE_SWEEP", str(request.getfixturevalue("sweep")))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    client = nbclient.NotebookClient(
        read, timeout=600, kernel_name="python3", resources={"metadata": {"path": notebook.parent}}
    )
    client.execute()
    shown = [output for cell in read.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(is_picture(output) for output in shown)
    assert not [o for o in shown if o.get("name") == "stderr" and "Traceback" in o["text"]]


def is_picture(output: Any) -> bool:
    return "image/png" in output.get("data", {})
