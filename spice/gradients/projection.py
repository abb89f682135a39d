"""A seeded projection of gradients as they are made, with no d × p matrix.

Each of d coordinates is added, with a random sign, to one of p (count sketch; Charikar et al.
2002): E⟨Sx, Sy⟩ = ⟨x, y⟩, with a variance of at most 2‖x‖²‖y‖²/p, as by a dense matrix of random
signs over √p. It costs a multiplication and an addition per coordinate, and no memory but a place
and a sign for each.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Sketch:
    """Projects blocks of coordinates, known by name, to ``size`` coordinates that they share.

    A block's places and signs depend on ``seed`` and its name alone: not on other blocks, nor on
    the device.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._drawn: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def add(self, into: Tensor, name: str, block: Tensor) -> None:
        """Add the projection of ``block`` (b × m) to ``into`` (b × size)."""
        key = (name, block.device)
        if key not in self._drawn:
            self._drawn[key] = self._draw(name, block)
        places, signs = self._drawn[key]
        into.index_add_(1, places, block * signs)

    def _draw(self, name: str, block: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        m = block.shape[1]
        places = torch.randint(0, self.size, (m,), generator=draw)
        signs = torch.randint(0, 2, (m,), generator=draw, dtype=torch.int8) * 2 - 1
        return places.to(block.device), signs.to(block.device)
