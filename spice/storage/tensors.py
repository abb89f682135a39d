"""Files of tensors that carry the hash of their numbers in their header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_128

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}
MARK = "about xxh3_128"  # one entry alone: safetensors writes several in any order
LONGEST = 2**27  # of a header, as safetensors has it


def save(tensors: Mapping[str, np.ndarray], path: Path, about: str = "") -> None:
    """Write named arrays, n × d or of any shape, as safetensors; ``about`` says what they are.

    Numbers of 16 bits without a sign are bfloat16, which numpy does not know.
    """
    noted = {MARK: f"{about} {_hash(tensors)}"}
    if all(values.dtype != np.uint16 for values in tensors.values()):
        from safetensors.numpy import save_file

        save_file(dict(tensors), path, metadata=noted)
        return
    import torch
    from safetensors.torch import save_file as save_torch

    def tensor(values: np.ndarray) -> Tensor:
        if values.dtype != np.uint16:
            return torch.from_numpy(values)
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)

    save_torch({name: tensor(values) for name, values in tensors.items()}, path, metadata=noted)


def save_torch(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors, n × d or of any shape, of the kinds that :data:`KINDS` has."""
    save({name: _array(value.cpu().contiguous()) for name, value in tensors.items()}, path)


def mapped(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """A file's arrays, n × d or of any shape, mapped into memory, and its mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no file of tensors, or its header does not fit its size.
        KeyError: the same.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= LONGEST:
            raise ValueError(f"{path}: no header")
        header: dict[str, Any] = json.loads(file.read(length))
    mark = header.pop("__metadata__", {}).get(MARK, "")
    end = max((part["data_offsets"][1] for part in header.values()), default=0)
    if path.stat().st_size != 8 + length + end:
        raise ValueError(f"{path}: not of the size that its header says")
    whole, found = np.memmap(path, np.uint8, "r"), {}
    for name, part in header.items():
        start, stop = (8 + length + offset for offset in part["data_offsets"])
        found[name] = whole[start:stop].view(KINDS[part["dtype"]]).reshape(part["shape"])
    return found, mark


def read(path: Path) -> tuple[dict[str, np.ndarray], str] | None:
    """A file's arrays, n × d or of any shape, and what they are about, if they are as written.

    None if they are not, or not there.
    """
    try:
        tensors, mark = mapped(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    about, _, digest = mark.rpartition(" ")
    return (tensors, about) if digest == _hash(tensors) else None


def is_whole(path: Path) -> bool:
    """Whether a file of tensors is there as it was written."""
    return read(path) is not None


def _array(values: Tensor) -> np.ndarray:
    import torch

    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()


def _hash(tensors: Mapping[str, np.ndarray]) -> str:
    total = xxh3_128()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {values.dtype} {values.shape} ".encode())
        total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
