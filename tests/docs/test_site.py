"""The site: built without a warning, self-contained, and written by what it describes."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from documents import ROOT

import spice

CONF = sorted((ROOT / "conf").rglob("*.yaml"))
#: tags that make a browser fetch something by itself
FETCHED = re.compile(
    r"<(?:link|script|img|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:[^\"\s>]+)"
)


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def words(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        found = FETCHED.findall(page.read_text(encoding="utf-8"))
        assert not [link for link in found if "rel=canonical" not in link], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", style.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_formulas_are_drawn_and_nothing_is_left_of_their_source(site: Path) -> None:
    page = (site / "theory.html").read_text(encoding="utf-8")
    written = (ROOT / "docs/theory.md").read_text(encoding="utf-8").count("```math")
    assert page.count("<math") == written > 10
    inside = " ".join(re.findall(r"(?s)<math.*?</math>", page))
    assert "\\" not in inside


@pytest.mark.slow
def test_the_library_has_all_that_import_spice_offers(site: Path) -> None:
    page = (site / "reference/library.html").read_text(encoding="utf-8")
    for name in spice.__all__:
        assert re.search(rf'<h3 id="spice\.([\w.]+\.)?{name}"', page), name


@pytest.mark.slow
def test_each_key_and_option_is_on_the_page_of_the_configuration(site: Path) -> None:
    page = words(site / "reference/configuration.html")
    for path in CONF:
        group = str(path.parent.relative_to(ROOT / "conf"))
        if group not in (".", "benchmarks/task", "hydra/job_logging"):  # composed by others
            assert f"{group}={path.stem}" in page


@pytest.mark.slow
def test_help_is_on_its_page(site: Path) -> None:
    assert "spice chooses the part of an instruction-tuning pool" in words(
        site / "reference/command_line.html"
    )


def leaves(found: object, above: str = "") -> set[str]:
    if not isinstance(found, dict) or not found:
        return {above}
    return {leaf for key, value in found.items() for leaf in leaves(value, f"{above}.{key}")}


@pytest.mark.parametrize("path", CONF, ids=lambda p: str(p.relative_to(ROOT / "conf")))
def test_keys_are_read_off_a_file_with_their_values_and_notes(path: Path) -> None:
    reference = hook("reference")
    found = {key.name: key for key in reference.keys(path)}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    asked = {leaf[1:] for leaf in leaves(values)}
    asked = {leaf for leaf in asked if not re.match(r"(defaults|hydra)\b|.*_target_", leaf)}
    inline = tuple(f"{name}." for name, key in found.items() if key.value.startswith("{"))
    assert not {leaf for leaf in asked - set(found) - {""} if not leaf.startswith(inline)}
    told = " ".join([*(key.note for key in found.values()), *reference.opening(path)])
    hidden = re.compile(r"^ *- |_target_|^hydra:|^defaults:")
    for line in path.read_text(encoding="utf-8").splitlines():
        note = line.partition("# ")[2] if " # " in line or line.startswith("# ") else ""
        if note and not hidden.search(line) and not note.startswith("@package"):
            assert note in told, note
