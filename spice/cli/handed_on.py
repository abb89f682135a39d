"""A configuration that somebody handed on: what it must not decide before ours is composed."""

from __future__ import annotations

from pathlib import Path

from spice.cli.explain import conf_dir
from spice.consent import CONSENT, granted
from spice.errors import InputError

#: by these a file says what Hydra itself imports and calls, in the order of the list of defaults
DECIDES = ("hydra", "defaults")


def check(arguments: list[str]) -> None:
    """Refuse a ``--config-path`` whose configuration would make Hydra run code of its choice.

    That of a run folder holds neither ``hydra`` nor ``defaults``.

    Raises:
        InputError: it does, and the environment does not consent.
    """
    folder = _option(arguments, "--config-path", "-cp")
    if folder is None or granted("hydra") or Path(folder).resolve() == conf_dir().resolve():
        return
    name = _option(arguments, "--config-name", "-cn") or "config"
    for path in (Path(folder, name), Path(folder, f"{name}.yaml")):
        if path.is_file() and (found := _decides(path)):
            raise InputError(
                f"{path}: its {found} may run any code; take it out, or if the file is yours, say "
                f"so in the environment: {CONSENT}=hydra"
            )


def _decides(path: Path) -> str | None:
    import yaml

    text = path.read_text(encoding="utf-8", errors="replace")
    if "@package" in text:
        return "@package"
    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError:  # Hydra will say so
        return None
    return next((key for key in DECIDES if isinstance(held, dict) and key in held), None)


def _option(arguments: list[str], *names: str) -> str | None:
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names and equals:
            return value
        if name in names and i + 1 < len(arguments):
            return arguments[i + 1]
    return None
