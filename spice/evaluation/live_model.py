"""A live model behind lm-eval's interface, and lm-eval made quiet, offline and safe.

What is measured is lm-eval's: its tasks, prompts, filters, metrics and aggregation. How a model is
asked is ours, because the harness's own wrapper reloads models, loses or doubles bos when it cuts
a prompt, and stops with an error where an answer might not fit the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lm_eval.api.model import LM

from spice.distributed import team
from spice.evaluation.asked import Asked, Question, answer
from spice.evaluation.context import Context, Pair

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

    from spice.data.rendering import Renderer
    from spice.distributed.per_rank import PerRank


class LiveModel(LM):
    """A model in memory, of one process or of several, as lm-eval wants to see it.

    What does not fit ``max_length`` is shortened as :class:`spice.evaluation.context.Context` says,
    and answered by :class:`spice.evaluation.asked.Asked`. ``cut`` collects the (task, document)
    pairs that lost something: part of the prompt, part of a choice, or the end of an answer that
    was still going on where the room ended.
    """

    def __init__(
        self,
        asked: PerRank[Asked],
        tokenizer: PreTrainedTokenizerBase,
        renderer: Renderer,
        *,
        max_length: int,
        batch_size: int,
        chat: bool = False,
        max_new_tokens: int | None = None,
        label: str = "",
    ) -> None:
        super().__init__()
        self.asked = asked
        self.renderer = renderer
        self.context = Context(tokenizer, renderer, max_length, chat, max_new_tokens)
        self.batch_size = batch_size
        self.label = label
        self.cut: set[tuple[str | None, int | None]] = set()

    @property
    def tokenizer_name(self) -> str:
        """Needed for lm-eval's request cache only, which is not used."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The renderer's prompt; a begun answer, if the task gives one, is put behind it."""
        if add_generation_prompt:
            return self.renderer.prompt_text(chat_history)
        *before, begun = chat_history
        return self.renderer.prompt_text(before) + begun["content"]

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """log p(continuation | context) in nats, and whether greedy decoding would write it."""
        pairs = [self._pair(request) for request in requests]
        # Continuations that differ in their last token only share one pass through the model.
        sharing: dict[tuple[int, ...], list[int]] = {}
        for i, pair in enumerate(pairs):
            sharing.setdefault((*pair.context, *pair.continuation[:-1]), []).append(i)
        questions = [Question(ids, [pairs[i].continuation for i in which])
                     for ids, which in sharing.items()]  # fmt: skip
        answers: dict[int, tuple[float, bool]] = {}
        for which, found in zip(sharing.values(), self._ask("passing", questions), strict=True):
            answers.update(zip(which, found, strict=True))
        return [answers[i] for i in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Not offered: perplexity over windows depends on how they are cut."""
        raise NotImplementedError("perplexity tasks are not supported")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers, each up to its first stop."""
        plans = [self.context.generation(*request.args) for request in requests]
        # Equal budgets only, so that a padded batch never grows beyond the context.
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            alike.setdefault((plan.budget, plan.stops, plan.sampling), []).append(i)
        answers: dict[int, str] = {}
        for members in alike.values():
            written = self._ask("writing", [plans[i] for i in members])
            for i, (text, ended) in zip(members, written, strict=True):
                answers[i] = text
                if plans[i].cut or (plans[i].shortened and not ended):
                    self._mark_cut(requests[i])
        return [answers[i] for i in range(len(requests))]

    def _pair(self, request: Instance) -> Pair:
        pair = self.context.pair(*request.args)
        if pair.cut:
            self._mark_cut(request)
        return pair

    def _mark_cut(self, request: Instance) -> None:
        self.cut.add((request.task_name, request.doc_id))

    def _ask(self, kind: Literal["passing", "writing"], items: Sequence[Any]) -> list[Any]:
        """An answer for each item, by all processes, in batches of similar length.

        The longest come first: what does not fit memory fails at once.
        """
        order = sorted(range(len(items)), key=lambda i: items[i].length, reverse=True)
        parts = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        batches = [[items[i] for i in part] for part in parts]
        by_rank = team.everywhere(answer, self.asked, kind, batches, self.label)
        found: dict[int, Any] = {}
        for number, part in enumerate(parts):
            turn, rank = divmod(number, len(by_rank))
            found.update(zip(part, by_rank[rank][turn], strict=True))
        return [found[i] for i in range(len(items))]
