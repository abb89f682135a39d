"""What is exported for TRL is what ``SFTTrainer`` learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported
import pytest
from exported import turns

from spice.data.identity import identify
from spice.pipeline.export import export

trl = pytest.importorskip("trl")

TEMPLATE = (
    "{% for m in messages %}{{ m.role + ': ' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}"
)
ROWS = identify(
    [
        exported.row("Say red", "twice", "red red"),
        exported.row(
            "Say blue", "", "blue", [("hello", "well met"), ("really?", "yes")], "Be short"
        ),
    ]
)


@pytest.mark.slow
def test_the_trainer_learns_every_answer_and_nothing_else(
    tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    done = export(exported.run_of(tmp_path, ROWS, [1, 0]), "trl")
    assert "assistant_only_loss=True" in done.config
    folder = make_checkpoint("llama")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    trainer = trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        trl.SFTConfig(
            str(tmp_path / "out"), assistant_only_loss=True, use_cpu=True, bf16=False,
            report_to="none", max_length=None, max_steps=1, per_device_train_batch_size=2,
            disable_tqdm=True, save_strategy="no",
        ),
        train_dataset=exported.loaded(done.path, tmp_path / "cache"),
        processing_class=tokenizer,
    )  # fmt: skip
    for read, row in zip(trainer.train_dataset, [ROWS[1], ROWS[0]], strict=True):
        said = turns(row)
        rendered = tokenizer.apply_chat_template(
            [{"role": role, "content": text} for role, text, _ in said], tokenize=False
        )
        assert tokenizer.decode(read["input_ids"]) == rendered
        learnt = [
            t for t, label in zip(read["input_ids"], read["labels"], strict=True) if label != -100
        ]
        answers = [text + tokenizer.eos_token for _, text, is_learnt in said if is_learnt]
        assert tokenizer.decode(learnt) == "".join(answers)
    assert trainer.train().training_loss > 0
