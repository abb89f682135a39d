"""Gradients as products of matrices want them: on a device, in a precision, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from spice.submodular.kernel import Rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 512  # rows that are sent to a GPU together
ROOM = 0.5  # share of a GPU's free memory that the gradients may take
PIECE = 2**16  # bytes of each row that are multiplied at a time


class Reader:
    """Rows of n × d ``gradients`` on ``device`` as ``dtype``; ``which`` are h positions.

    A GPU with room for them may ``hold`` all, so that none is sent twice.
    """

    def __init__(self, gradients: Rows, device: str, dtype: torch.dtype, hold: bool) -> None:
        self.gradients, self.device, self.dtype = gradients, device, dtype
        self._resident = self._upload() if hold else None

    def _upload(self) -> Tensor | None:
        import torch

        n, d = self.gradients.shape
        if torch.device(self.device).type != "cuda":
            return None
        dtype = torch.from_numpy(np.empty(0, self.gradients.dtype)).dtype
        if n * d * dtype.itemsize > ROOM * torch.cuda.mem_get_info(self.device)[0]:
            return None
        held = torch.empty((n, d), dtype=dtype, device=self.device)
        for which in np.split(np.arange(n), range(AT_ONCE, n, AT_ONCE)):
            held[which[0] : which[-1] + 1] = torch.from_numpy(self.gradients[which])
        return held

    def index(self, which: np.ndarray) -> Tensor:
        """Positions (h), on the device."""
        import torch

        return torch.from_numpy(which).to(self.device)

    def rows(self, which: np.ndarray, columns: slice | None = None) -> Tensor:
        """Gradients of ``which``, h × d; of all ``columns`` if none are named."""
        import torch

        if self._resident is not None:
            return self._resident[self.index(which), columns or slice(None)].to(self.dtype)
        asked = (which, columns) if columns else which
        return torch.from_numpy(self.gradients[asked]).to(self.device, self.dtype)

    def pieces(self, which: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
        """Gradients of ``which``, h × some columns, without a whole copy in another precision."""
        d, width = self.gradients.shape[1], PIECE // self.dtype.itemsize
        for start in range(0, d, width):
            columns = slice(start, min(start + width, d))
            yield columns, self.rows(which, columns)
