"""Find the small part of an instruction-tuning pool that is worth training on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spice.gradients.live import gradients
    from spice.library import diagnose, reliability, select

__version__ = "0.1.0"
__all__ = ["diagnose", "gradients", "reliability", "select"]


def __getattr__(name: str) -> Any:
    """Fetch what :mod:`spice.library` offers when it is first asked for: ``import spice`` is quick.

    Raises:
        AttributeError: a name that this package does not offer.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spice import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
