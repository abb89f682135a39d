"""The run and its helpers: one process for each device, which do together what a step asks of all.

The run is the process of rank 0. It alone composes, selects, writes and talks; the others wait for
its orders: a function and its arguments, which :func:`everywhere` sends to all of them. They are
started here, on this machine, or were started by torchrun or srun.

Orders are pickled, as torch sends objects: they come from the run itself and from nowhere else.
"""

from __future__ import annotations

import os
import pickle  # nosec B403
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from spice.distributed.helpers import Helpers, cores
from spice.distributed.ranks import Rank, alone, given
from spice.distributed.watching import Watch
from spice.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup, Store

FOREVER = timedelta(days=20)  # helpers wait while the run selects; more milliseconds overflow
PATIENCE = 10.0  # seconds for helpers to end by themselves
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
KIND, ERROR = "kind", "error"  # what is told under these keys
NOT_NEEDED = "none"


class _Team:
    """Of this process: its rank, and how it reaches the others."""

    wanted = 1
    kind = "cpu"
    rank: Rank | None = None
    store: Store | None = None
    orders: ProcessGroup | None = None
    helpers: Helpers | None = None  # those that it has started itself
    at_work = False  # an order is being obeyed
    divided = False  # models' layers are, of which each process holds a part
    while_others_work: Callable[[bool], None] | None = None


def rank() -> int:
    """Which process this is; 0 alone."""
    return _Team.rank.number if _Team.rank else 0


def size() -> int:
    """How many processes work on the run; 1 alone."""
    return _Team.rank.size if _Team.rank else _Team.wanted


def nodes() -> int:
    """How many machines they are on."""
    return _Team.rank.nodes if _Team.rank else 1


def local_rank() -> int:
    """Which of this machine's devices is this process's."""
    return _Team.rank.local if _Team.rank else 0


def on_gpus() -> bool:
    """Whether each process has a GPU."""
    return _Team.kind == "cuda"


def at_hand() -> bool:
    """Whether other processes have begun to help."""
    return _Team.orders is not None


def is_first() -> bool:
    """Whether this process is the run, which writes and talks."""
    return rank() == 0


def share(items: Sequence[Any]) -> Sequence[Any]:
    """This process's part of what all are given: every size-th, from its rank on."""
    return items[rank() :: size()]


def of_mine(units: str) -> str:
    """What a process counts that goes through its own share."""
    return units if size() == 1 else f"{units} of one in {size()} processes"


def gather(value: Any) -> list[Any]:
    """Every process's ``value`` by rank; all of them have to ask, so within an order alone."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    _wait()
    found: list[Any] = [None] * size()
    dist.all_gather_object(found, value, group=_Team.orders)
    return found


def told(number: int) -> list[int]:
    """The same of a number, at once: nobody is waited for who is asked for something else."""
    import torch
    import torch.distributed as dist

    found = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    dist.all_gather(found, torch.tensor([number]), group=_Team.orders)
    return [int(each) for each in found]


def while_others_work(act: Callable[[bool], None]) -> None:
    """What a process does that has to wait for the others; it is told whether an order ends."""
    _Team.while_others_work = act


def _wait(at_the_end: bool = False) -> None:
    """Come to where all have to be, once they are; divided layers may be needed until then."""
    if is_divided():
        assert _Team.while_others_work  # which came with the package
        _Team.while_others_work(at_the_end)


def is_divided() -> bool:
    """Whether the layers of a model that is loaded now are divided among the processes.

    Raises:
        RuntimeError: they are, and the run alone would load it: it would wait for ever.
    """
    divided = _Team.divided and size() > 1
    if divided and not _Team.at_work:
        raise RuntimeError("a divided model is loaded by all processes at once, within an order")
    return divided


def add_up(tensors: Sequence[Tensor]) -> None:
    """Make each tensor, n × m or of any other shape, all processes' sum; within an order alone."""
    if size() == 1:
        return
    import torch.distributed as dist

    _wait()
    for tensor in tensors:
        dist.all_reduce(tensor)


# -- the run's side --------------------------------------------------------------------------------


def ask_for(processes: int, gpus: bool, divided: bool = False) -> None:
    """How many processes work on what comes, each with a GPU or a share of the cores.

    With ``divided`` each holds a part of every layer of a frozen model, not all of it. They start
    when they are first needed, and stay for the next run that asks for as many.
    """
    kind = "cuda" if gpus else "cpu"
    if _Team.orders and (processes, kind) != (_Team.wanted, _Team.kind):
        disband()
    _Team.wanted, _Team.kind, _Team.divided = processes, kind, divided


def everywhere(function: Callable[..., Any], *arguments: Any, here: Any = None) -> list[Any]:
    """Call ``function(*arguments, here)`` in every process; what each returned, by rank.

    Only the run's own call is given ``here``, such as a tracker; the others' have None.

    Raises:
        InputError: a helper came upon a user's mistake, or was ended.
    """
    if _Team.wanted == 1:
        return [function(*arguments, here)]
    _gather_round()
    import torch.distributed as dist

    found: list[Any] = [None] * size()
    _Team.at_work = True
    try:
        with _threads_shared_out(), Watch(_lost):
            order = function, arguments, _Team.divided
            dist.broadcast_object_list([order], src=0, group=_Team.orders)
            mine = function(*arguments, here)
            _wait(at_the_end=True)
            dist.gather_object(mine, found, dst=0, group=_Team.orders)
    except RuntimeError as error:  # as gloo says that another process is gone
        told = _lost(patience=3.0)
        disband()
        if told is None:
            raise
        raise told from error
    except BaseException:
        disband()
        raise
    _Team.at_work = False
    return found


def disband() -> None:
    """Be alone: helpers have nothing more to do, and those that are still at work are ended."""
    if _Team.store is not None:
        import torch.distributed as dist

        with suppress(RuntimeError):  # some of them are gone
            if _Team.orders is None:
                _Team.store.set(KIND, NOT_NEEDED)
            elif not _Team.at_work:
                dist.broadcast_object_list([None], src=0, group=_Team.orders)
        if _Team.helpers:
            _Team.helpers.end(0.0 if _Team.at_work else PATIENCE)
        if _Team.orders is not None:
            with suppress(RuntimeError):
                dist.destroy_process_group()
    _Team.rank = _Team.store = _Team.orders = _Team.helpers = None
    _Team.at_work = False


def _gather_round() -> None:
    """Have the helpers there, and ready."""
    if _Team.orders is not None:
        return
    if _Team.rank is None:
        if given() is not None:
            raise InputError("the other processes of this run are gone; start all of it again")
        first = alone(_Team.wanted)
        _Team.helpers = Helpers(first)
        meet(first)
    assert _Team.store is not None
    _Team.store.set(KIND, _Team.kind)
    join()


@contextmanager
def _threads_shared_out() -> Iterator[None]:
    """Two processes with two threads each are many times slower on two cores than with one each."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, cores() * nodes() // size())))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lost(patience: float = 0.0) -> BaseException | None:
    """Why a helper is not there any more, if one is not."""
    until = time.monotonic() + patience
    while True:
        with suppress(RuntimeError):
            if _Team.store is not None and _Team.store.check([ERROR]):
                return pickle.loads(_Team.store.get(ERROR))  # nosec B301
        if _Team.helpers and (how := _Team.helpers.ended()):
            on = "; the same command goes on from what is finished"
            return InputError(f"trainer.devices={size()}: {how}{on}")
        if time.monotonic() >= until:
            return None
        time.sleep(0.1)


# -- both sides ------------------------------------------------------------------------------------


def meet(rank: Rank) -> None:
    """Reach the place where the processes tell each other; the run, or torchrun, provides it."""
    import torch.distributed as dist

    torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    place = dist.TCPStore(
        rank.address, rank.port, rank.size, rank.number == 0 and not torchrun, FOREVER,
        wait_for_workers=False,
    )  # fmt: skip
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    _Team.rank, _Team.store = rank, dist.PrefixStore(f"spice-{attempt}", place)


def join() -> bool:
    """Wait until all are there; False if the run can do without helpers."""
    import torch
    import torch.distributed as dist

    assert _Team.rank is not None
    assert _Team.store is not None
    kind = _Team.store.get(KIND).decode()
    if kind == NOT_NEEDED:
        return False
    _Team.wanted, _Team.kind = _Team.rank.size, kind
    if on_gpus():
        torch.cuda.set_device(_Team.rank.local)
    dist.init_process_group(
        BACKENDS[kind],
        store=_Team.store,
        rank=_Team.rank.number,
        world_size=_Team.rank.size,
        timeout=FOREVER,
    )
    _Team.orders = dist.new_group(backend="gloo", timeout=FOREVER)
    return True


# -- a helper's side -------------------------------------------------------------------------------


def obey() -> None:
    """Do what the run asks of all, until it has nothing more to ask, or is gone."""
    import torch.distributed as dist

    while True:
        order: list[Any] = [None]
        try:
            dist.broadcast_object_list(order, src=0, group=_Team.orders)
        except RuntimeError:
            return
        if order[0] is None:
            return
        function, arguments, _Team.divided = order[0]
        _Team.at_work = True
        try:
            mine = function(*arguments, None)
            _wait(at_the_end=True)
            dist.gather_object(mine, None, dst=0, group=_Team.orders)
        except BaseException as error:
            _tell(error)
            os._exit(1)  # the others wait for this process, and hear of its end alone


def _tell(error: BaseException) -> None:
    """The run raises a helper's error; of several, the first that is told."""
    error.add_note(f"In process {rank()}:\n{traceback.format_exc()}")
    try:
        told = pickle.dumps(error)
        pickle.loads(told)  # nosec B301
    except Exception:  # of a class that cannot be sent
        told = pickle.dumps(RuntimeError(traceback.format_exc()))
    with suppress(RuntimeError):  # the run is gone
        assert _Team.store is not None
        if _Team.store.add(f"{ERROR}s", 1) == 1:
            _Team.store.set(ERROR, told)  # type: ignore[arg-type]
