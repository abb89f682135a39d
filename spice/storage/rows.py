"""Rows that may come with what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class KnownRows:
    """Rows n × d that may know their ‖g‖² and their K, which no α, λ or ω changes."""

    def known_squares(self) -> np.ndarray | None:
        """‖g‖², n; None where nobody has computed them."""
        return None

    def known_products(self) -> np.ndarray | None:
        """K = GGᵀ, n × n; None where nobody has computed it."""
        return None
