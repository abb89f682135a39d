"""Run by test_room.py: a process that may ask for little more memory than it has."""

from __future__ import annotations

import logging
import resource
import sys
from functools import partial

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spice.data.batch_limit import BatchLimit
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.errors import InputError
from spice.gradients.per_sample import per_sample_gradients
from spice.models.dropout import drawn_by_row
from spice.models.head import token_choices
from spice.models.in_parts import Slopes, learnt_nll
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.models.memory import hand_back_what_is_freed
from spice.models.room import Room

SIZES = {"hidden_size": 64, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 50,
         "num_attention_heads": 4, "num_key_value_heads": 2,
         "max_position_embeddings": 4096}  # fmt: skip
MORE = 100 * 2**20  # bytes; the whole batch keeps some 250 MB, and no pass less than 20


def leave(more: int) -> None:
    """Let this process have so many bytes more of address space."""
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def main(what: str) -> None:
    """What comes of a batch by one row at a time, and of all at once with little memory left."""
    torch.set_num_threads(1)
    hand_back_what_is_freed()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    adapted = Lora(r=2, alpha=4, dropout=0.3, targets="all-linear").attach(model, 0).eval()
    length, rows = (4000, 1) if what == "one row" else (128, 16)
    batch = pad([Example([5 + i] * length, length // 2) for i in range(rows)], range(rows), 0)

    def losses(part: dict) -> torch.Tensor:
        with torch.no_grad():
            return response_nll(adapted, part)[0]

    def choices(part: dict) -> torch.Tensor:
        places = torch.arange(part["input_ids"].numel())
        inputs = {"input_ids": part["input_ids"]}
        log_p, _ = token_choices(model, inputs, places, part["input_ids"].flatten())
        return log_p.view_as(part["input_ids"]).sum(dim=1)

    def learning(room: Room) -> torch.Tensor:
        slopes = Slopes(adapted)
        nll, _ = learnt_nll(adapted, batch, room, range(rows), slopes)
        return torch.cat([nll, *(total.flatten().float() for total in slopes.sums)])

    acts = {"losses": losses, "choices": choices}
    act = acts.get(what, partial(per_sample_gradients, adapted, reduction="mean"))
    if what == "learning":
        drawn_by_row(adapted)
        adapted.train()
    make = learning if what == "learning" else lambda room: torch.cat(room.parts(act, batch))
    kind = "passing" if what in acts else "learning"
    one_by_one = Room(adapted, BatchLimit(1, 1, 10**9), kind)
    room = Room(adapted, BatchLimit(64, 10**9, 10**9), kind)
    if what == "one row":
        leave(30 * 2**20)
        make(room)
    expected = make(one_by_one)
    leave(MORE if kind == "learning" else MORE // 5)
    found = make(room)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert room.limit.tokens < 2048
    print("the same, and at", room.limit.tokens)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(sys.argv[1])
    except InputError as error:
        print(f"spice: {error}", file=sys.stderr)
        sys.exit(2)
