"""A configuration from elsewhere decides nothing about the code that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from spice.cli import handed_on
from spice.cli.explain import conf_dir
from spice.errors import InputError


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hydra:\n  callbacks: {x: {_target_: os.system}}\nbudget: 0.1\n", "hydra"),
        ("defaults: [{hydra/launcher: mine}]\n", "defaults"),
        ("# @package hydra\ncallbacks: {x: {_target_: os.system}}\n", "@package"),
    ],
)
@pytest.mark.parametrize("form", ["--config-path={}", "--config-path {}", "-cp {}"])
def test_what_would_run_code_is_refused_without_consent(
    text: str, named: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    arguments = [*form.format(tmp_path).split(), "--config-name", "config"]
    with pytest.raises(InputError, match=f"its {named} may run any code") as refused:
        handed_on.check(arguments)
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("SPICE_PLUGINS", "mine,hydra")
    handed_on.check(arguments)


def test_a_run_folder_s_configuration_and_our_own_are_taken(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("budget: 0.1\nseed: 0\n", encoding="utf-8")
    handed_on.check([f"--config-path={tmp_path}", "--config-name=config"])
    handed_on.check([f"--config-path={conf_dir()}"])
    handed_on.check(["budget=0.2"])


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("experiment/mine.yaml", "# @package _global_\nhydra: {callbacks: {}}\n", True),
        ("experiment/mine.yaml", "# @package _global_\nhydra.callbacks: {}\n", True),
        ("experiment/mine.yaml", "# @package hydra.callbacks\nx: {_target_: os.system}\n", True),
        ("experiment/mine.yaml", "defaults: [{/mine@hydra.callbacks: cb}]\n", True),
        ("experiment/mine.yaml", "defaults: [{override /hydra/launcher: x}]\n", True),
        ("experiment/mine.yaml", "defaults: [{override /selector: random}]\n", False),
        ("hydra/launcher/mine.yaml", "_target_: os.system\n", True),
        ("experiment/mine.yaml", "# @package _global_\nbudget: 0.2\n", False),
    ],
)
def test_options_of_one_s_own_do_not_speak_for_hydra(
    name: str, text: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    if refused:
        with pytest.raises(InputError, match=f"{name}: its hydra may run any code"):
            handed_on.check([f"--config-dir={tmp_path}"])
        monkeypatch.setenv("SPICE_PLUGINS", "hydra")
    handed_on.check(["--config-dir", str(tmp_path)])
