"""The Python of the README and docs/ runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import PAGES, blocks, name

#: run by tests/test_docs.py, each where it belongs
EXTENDING = {"add_a_selector.md", "add_a_signal.md", "add_a_step.md"}
WITH_PYTHON = [p for p in PAGES if blocks(p, "python") and p.name not in EXTENDING]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_of_a_page_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in blocks(page, "python"):
        exec(compile(example, name(page), "exec"), names)
    assert len(capsys.readouterr().out.split()) > 10
    assert not list(tmp_path.iterdir())  # the library writes no files


def test_there_are_such_pages() -> None:
    assert {"README.md", "docs/reference/library.md"} <= {name(page) for page in WITH_PYTHON}
