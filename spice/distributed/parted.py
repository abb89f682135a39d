"""Tensors of which every process holds a part, put together while one computes with them.

Of a model's layers one at a time is needed, but not the same one by all: processes have different
shares of the work, and come to their ends at different times. So whoever needs a group of tensors
asks, all tell each other what they ask for, and all put together what anyone did. Who needs nothing
goes on answering until nobody does (:func:`answer`).

torch's ``fully_shard`` has the processes make the same passes instead, each layer whole for all of
them at once: here they share out batches of their own, go through a window layer by layer, and
halve what did not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

from spice.distributed import team

if TYPE_CHECKING:
    from torch import Tensor

ALIGNED = 256  # bytes at whose multiples tensors start, as allocators have it
NOTHING = -1


class Parted:
    """A group of tensors, of whose bytes each of p processes holds one p-th.

    All processes make it at once, of tensors of any shapes: the first has their numbers, the others
    need not (on the meta device). ``tensors`` are the same on ``device`` between :meth:`open` and
    :meth:`close`, and have no memory otherwise. One group at a time is open.
    """

    _made = 0
    _all: ClassVar[WeakValueDictionary[int, Parted]] = WeakValueDictionary()
    _of_this_order: ClassVar[list[Parted]] = []  # others may need what this process has dropped
    _opened: Parted | None = None

    def __init__(self, given: Sequence[Tensor], device: str) -> None:
        import torch
        import torch.distributed as dist

        unit = ALIGNED * team.size()
        self._bytes = -(-sum(map(_room, given)) // unit) * unit
        self._flat = torch.empty(self._bytes, dtype=torch.uint8, device=device)
        self._part = self._flat.new_empty(self._bytes // team.size())
        self.tensors = list(_views(self._flat, given))
        parts = None
        if team.is_first():
            for mine, whole in zip(self.tensors, given, strict=True):
                mine.copy_(whole.detach())
            parts = list(self._flat.chunk(team.size()))
        dist.scatter(self._part, parts, src=0)
        self.close()
        self._number = max(team.told(Parted._made))
        Parted._made = self._number + 1
        Parted._all[self._number] = self
        Parted._of_this_order.append(self)

    def open(self) -> None:
        """Have the tensors whole, and no others; all other processes ask or answer meanwhile."""
        if Parted._opened is not self:
            if Parted._opened is not None:
                Parted._opened.close()
            Parted._opened = self
            _ask(self._number)

    def close(self) -> None:
        """Let go of their memory."""
        self._flat.untyped_storage().resize_(0)
        if Parted._opened is self:
            Parted._opened = None

    def _put_together(self) -> None:
        self._flat.untyped_storage().resize_(self._bytes)
        _gather(self._flat, self._part)
        if Parted._opened is not self:
            self.close()


def answer(at_the_end: bool = False) -> None:
    """Take part in what others put together, until nobody asks for anything."""
    if Parted._opened is not None:
        Parted._opened.close()
    while _ask(NOTHING):
        pass
    if at_the_end:
        Parted._of_this_order.clear()


def _ask(number: int) -> bool:
    """One round: tell what is needed, and put together what anyone needs; whether one did."""
    asked = sorted(set(team.told(number)) - {NOTHING})
    for each in asked:
        Parted._all[each]._put_together()
    return bool(asked)


def _gather(whole: Tensor, part: Tensor) -> None:
    import torch.distributed as dist

    gather: Any = getattr(dist, "all_gather_single", None)  # its name since torch 2.13
    (gather or dist.all_gather_into_tensor)(whole, part)


def _room(tensor: Tensor) -> int:
    """Bytes of a tensor, up to where the next one may start."""
    return -(-tensor.nbytes // ALIGNED) * ALIGNED


def _views(flat: Tensor, given: Sequence[Tensor]) -> Iterator[Tensor]:
    """Tensors of the given shapes, as parts of their common bytes.

    Of ``flat.data``: that they are filled again is no change that autograd has to know of.
    """
    start, data = 0, flat.data
    for tensor in given:
        yield data[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        start += _room(tensor)


team.while_others_work(answer)
