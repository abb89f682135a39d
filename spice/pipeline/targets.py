"""Which code a ``_target_`` may name: components of this package, and of others by consent alone.

Another package's classes are made only where the environment names it (:mod:`spice.consent`).
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from spice.consent import CONSENT, granted
from spice.errors import did_you_mean
from spice.values import MISSING, UNKNOWN, Problem, RefusedError, ValuesError

HOME = "spice"
KEY = "_target_"
ELSEWHERE = (
    "Is it on PYTHONPATH? A config.yaml that another version of spice wrote is not understood: "
    "give its overrides (names.overrides in it) to this version instead"
)


def located(target: object, expected: tuple[type, ...]) -> Callable[..., Any]:
    """The class behind ``target``, a kind of ``expected``; in this package also a function that
    returns one. Nothing expected stands for a part of a component, which must be a dataclass.

    Raises:
        RefusedError: it is of another package without consent, not there, or something else.
    """
    module, _, name = str(target).rpartition(".")
    package = module.partition(".")[0]
    if not isinstance(target, str) or not name.isidentifier() or not package:
        raise RefusedError(KEY, target, "must name a class, as in spice.selectors.spice.Spice")
    if package != HOME and not granted(package):
        words = (
            f"only classes of spice are made from a configuration; if {package} is yours, say so "
            f"in the environment: {CONSENT}={package}"
        )
        raise RefusedError(KEY, target, words)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        why = "" if package == HOME else f" ({error})"
        raise RefusedError(KEY, target, f"no such class{why}. {ELSEWHERE}") from None
    if not _fits(found, package, expected):
        raise RefusedError(KEY, target, f"must name a {named(expected) or 'component'}")
    return found


def named(expected: tuple[type, ...]) -> str:
    """The kinds that something may be, for messages."""
    return " or ".join(kind.__name__ for kind in expected if kind is not type(None))


def check_keys(call: Callable[..., Any], keys: Mapping[str, Any]) -> None:
    """Refuse keys that a plain class does not take, and those that it lacks.

    Raises:
        ValuesError: so it is.
    """
    known = inspect.signature(call).parameters
    needed = [n for n, p in known.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    problems = [Problem((name,), None, MISSING) for name in needed if name not in keys]
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        unknown = (name for name in keys if name not in known)
        problems += [Problem((n,), None, UNKNOWN + did_you_mean(n, known)) for n in unknown]
    if problems:
        raise ValuesError(problems)


def _fits(found: Any, package: str, expected: tuple[type, ...]) -> bool:
    if inspect.isclass(found):
        return issubclass(found, expected) if expected else "__dataclass_fields__" in vars(found)
    if package != HOME or not inspect.isfunction(found):
        return False
    returned = typing.get_type_hints(found).get("return", type(None))
    made = inspect.isclass(returned) and returned is not type(None)
    return made and issubclass(returned, expected)
