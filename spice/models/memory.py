"""How much memory a model's passes take, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spice.data.batch_limit import BatchLimit
from spice.distributed import team
from spice.models.recompute import decoder_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SHARE = 0.5  # of the free memory that one process plans with; other jobs of a sweep have the rest
MOST = {"cpu": 2048, "cuda": 16384}  # tokens beyond which a batch is no quicker for it
OF_ROWS = 0.25  # share of that, at most, for what rows need beside their tokens
ENOUGH = 1024  # tokens below which a GPU waits; activations are rather computed twice
LOOKED_AT = 64  # tokens
SLACK = 1.15  # for what an allocator leaves unused between two tensors
Kind = Literal["learning", "passing", "writing"]

FLOAT = 4
PIECE = 2**24  # logits made at a time: 64 MB in float32, a gradient takes three times as much
MMAP_THRESHOLD, AT_ONCE = -3, 2**20  # mallopt's name for it; bytes


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model's passes need beside its weights.

    For each token of a batch, padding included: ``kept`` where a backward pass follows,
    ``recomputed`` where layers keep their input alone, ``passing`` where none follows. ``cached``
    is what a token takes that is generated behind, ``row`` what a row takes, ``fixed`` a pass.
    """

    kept: float
    recomputed: float
    passing: float
    cached: float
    fixed: int
    row: int = 0

    def peak(self, rows: int, tokens: int, per_token: float) -> int:
        """Of a batch of so many rows and tokens at so many bytes a token."""
        return round(self.fixed + rows * self.row + SLACK * tokens * per_token)

    def fitting(self, room: int, rows: int, per_token: float) -> int:
        """How many tokens of a batch of so many rows have room, one at least."""
        return max(int((room - self.fixed - rows * self.row) / (SLACK * per_token)), 1)


def chosen(limit: BatchLimit, found: Footprint, free: int, where: str, kind: Kind) -> BatchLimit:
    """A batch's limit with what it leaves open, for ``free`` bytes of

    As many tokens as fit a share of it, up to where more save no time: a GPU that writes reads all
    weights for one token of each row, so that there memory alone decides. Activations are kept for
    the way back unless too few tokens would be left for it. Where no tokens are given, rows are
    fewer than the limit's if what they need beside would leave no room.
    """
    room, most, rows = int(SHARE * free), MOST.get(where, MOST["cuda"]), limit.rows
    if found.row and not limit.tokens:
        rows = min(rows, max(int(OF_ROWS * room) // found.row, 1))
    if kind != "learning":
        writing = kind == "writing"
        fit = found.fitting(room, rows, found.passing + (found.cached if writing else 0.0))
        more = writing and where != "cpu"
        return BatchLimit(rows, limit.tokens or (fit if more else min(fit, most)))
    kept = found.fitting(room, rows, found.kept)
    again = found.fitting(room, rows, found.recomputed)
    tokens = limit.tokens or min(max(kept, min(again, ENOUGH)), most)
    return BatchLimit(rows, tokens, limit.recomputed or kept)


def footprint(model: Any, row: int = 0) -> Footprint:
    """Of a model as it is now: what its layers keep for a backward pass is counted in a short one.

    ``row`` bytes are needed for each row, of the device's memory.
    """
    config = model.config.get_text_config()
    layers = max(len(decoder_layers(model)), 1)
    weight = model.get_input_embeddings().weight
    kept = _kept_bytes(model) / LOOKED_AT
    one = kept / layers
    hidden = config.hidden_size * weight.element_size()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cached = 2.0 * layers * heads * width * weight.element_size()
    whole = max(PIECE, config.vocab_size) * FLOAT
    # On its way back a layer's activations have gradients beside them.
    return Footprint(
        kept + 2 * one, layers * hidden + 3 * one, 2 * one + 2 * hidden, cached, 4 * whole, row
    )


def _kept_bytes(model: Any) -> int:
    """Bytes that a pass over a few tokens keeps for the way back, the weights aside."""
    import torch

    # By the storage and not its bytes: those of a divided layer come and go.
    known = {w.untyped_storage()._cdata for w in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    alive: list[Any] = []  # lest a second storage be where a first one was

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return tensor.detach()  # with its history, what is kept would keep itself for ever

    weight = model.get_input_embeddings().weight
    hidden = model.config.get_text_config().hidden_size
    embedded = torch.ones(1, LOOKED_AT, hidden, dtype=weight.dtype, device=weight.device)
    saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.random.fork_rng(), torch.enable_grad(), saved:
        model(
            inputs_embeds=embedded.requires_grad_(),
            attention_mask=torch.ones(1, LOOKED_AT, dtype=torch.long, device=weight.device),
            use_cache=False,
            logits_to_keep=1,
        )
    return sum(kept.values())


def free(where: str) -> int:
    """Bytes that this process may still ask for on ``cpu`` or ``cuda``.

    On the CPU the least of what the machine has, what the process's control groups leave it and
    what its own limit does, shared by the run's processes on this machine.
    """
    if where == "cuda":
        import torch

        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + unused
    import psutil

    here = max(team.size() // team.nodes(), 1)
    machine = [psutil.virtual_memory().available, *_left_by_groups()]
    return min(min(machine) // here, _left_by_limit())


def _left_by_limit() -> int:
    """What ``ulimit -v`` leaves."""
    import resource

    import psutil

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return 2**62
    return max(most - int(psutil.Process().memory_info().vms), 0)


def _left_by_groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """What control groups (version 1 and 2) leave, this process's own and those around it."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0":
            names, base = ("memory.max", "memory.current"), root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            base = root / "memory"
        else:
            continue
        inner = base / place.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base) and (left := _left(folder, *names)) is not None:
                yield left


def _left(folder: Path, limit: str, usage: str) -> int | None:
    """The limit without what is in use; files that were read and can be dropped are not."""
    try:
        most, used = ((folder / name).read_text(encoding="utf-8") for name in (limit, usage))
        if not most.strip().isdigit():
            return None  # max: there is none
        stat = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    known = dict(line.split(maxsplit=1) for line in stat)
    dropped = int(known.get("total_inactive_file", known.get("inactive_file", 0)))
    return max(int(most) - int(used) + dropped, 0)


def hand_back_what_is_freed() -> None:
    """Let large tensors of the CPU go back to the machine as soon as they are dropped, from now on.

    glibc keeps those of up to 32 MB otherwise, and finds no use for the holes between what stays:
    a pass took 1.9 times what it keeps, measured, and no less time.
    """
    import ctypes
    import sys

    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(MMAP_THRESHOLD, AT_ONCE)
            libc.malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, or the CPU's."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = str(error)
    words = ("can't allocate memory", "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in told for word in words)
