"""A configuration that somebody handed on: what it must not decide before ours is composed."""

from __future__ import annotations

import re
from pathlib import Path

from spice.cli.explain import conf_dir
from spice.consent import CONSENT, granted
from spice.errors import InputError

#: by these a file says what Hydra itself imports and calls, in the order of the list of defaults
DECIDES = ("hydra", "defaults")


def check(arguments: list[str]) -> None:
    """Refuse configurations from elsewhere that would make Hydra run code of their choice.

    That of a run folder, for ``--config-path``, holds neither ``hydra`` nor ``defaults``; options
    of one's own, in a ``--config-dir``, do not speak for ``hydra``.

    Raises:
        InputError: they do, and the environment does not consent.
    """
    _check_options(_option(arguments, "--config-dir", "-cd"))
    folder = _option(arguments, "--config-path", "-cp")
    if folder is None or granted("hydra") or Path(folder).resolve() == conf_dir().resolve():
        return
    name = _option(arguments, "--config-name", "-cn") or "config"
    for path in (Path(folder, name), Path(folder, f"{name}.yaml")):
        if path.is_file() and (found := _decides(path)):
            raise _refusal(path, found)


def _check_options(folder: str | None) -> None:
    if folder is None or granted("hydra"):
        return
    for path in sorted(Path(folder).rglob("*.yaml")):
        inside = path.relative_to(folder).parts
        if inside[0] == "hydra" or "hydra" in _keys(path) or _points_at_hydra(path):
            raise _refusal(path, "hydra")


def _points_at_hydra(path: Path) -> bool:
    """Whether a file is put under ``hydra``, or its list of defaults puts others there."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if re.search(r"@package\s+\S*hydra", text):
        return True
    listed = _parsed(text).get("defaults")
    return "hydra" in str(listed) if listed else False


def _refusal(path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: its {found} may run any code; take it out, or if the file is yours, say so in "
        f"the environment: {CONSENT}=hydra"
    )


def _decides(path: Path) -> str | None:
    if "@package" in path.read_text(encoding="utf-8", errors="replace"):
        return "@package"
    return next((key for key in DECIDES if key in _keys(path)), None)


def _keys(path: Path) -> set[str]:
    """Those at the top of a file, and the first part of those with dots."""
    held = _parsed(path.read_text(encoding="utf-8", errors="replace"))
    return {str(key).partition(".")[0] for key in held}


def _parsed(text: str) -> dict[object, object]:
    import yaml

    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError:  # Hydra will say so
        return {}
    return held if isinstance(held, dict) else {}


def _option(arguments: list[str], *names: str) -> str | None:
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names and equals:
            return value
        if name in names and i + 1 < len(arguments):
            return arguments[i + 1]
    return None
