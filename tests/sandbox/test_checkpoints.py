from itertools import islice
from random import Random

import pytest

from spice.sandbox import CHECKPOINTS, checkpoint
from spice.sandbox.items import items
from spice.sandbox.making.corpus import PROMPT_HEAD, RESPONSE_HEAD, documents
from spice.sandbox.pool import pool
from spice.sandbox.skills import SKILLS

transformers = pytest.importorskip("transformers")


def tokenizer(name: str):
    return transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint(name))


def test_all_of_them_ship_in_under_four_megabytes():
    files = [file for name in CHECKPOINTS for file in checkpoint(name).iterdir()]
    assert sum(file.stat().st_size for file in files) < 4_000_000
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file.name for file in files}


def test_an_unknown_checkpoint_is_refused():
    with pytest.raises(ValueError, match="no sandbox checkpoint"):
        checkpoint("traget")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_text_survives_the_tokenizer(name):
    tok = tokenizer(name)
    texts = [row.prompt + row.response for row in pool(600, 3)]
    texts += [document.prompt + document.response for document in islice(documents(Random(2)), 600)]
    texts += ["".join(map(chr, range(32, 127))), "  two  spaces \n\n\n  and lines\n"]
    for text in texts:
        assert tok.decode(tok(text, add_special_tokens=False)["input_ids"]) == text
        assert tok.unk_token_id is None or tok.unk_token_id not in tok(text)["input_ids"]


def test_headings_are_single_tokens():
    tok = tokenizer("target")
    assert len(tok(PROMPT_HEAD, add_special_tokens=False)["input_ids"]) == 1
    assert len(tok(RESPONSE_HEAD, add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_models_load_and_items_fit_their_context(name):
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(name))
    tok = tokenizer(name)
    assert model.get_input_embeddings().num_embeddings == len(tok)
    assert tok.eos_token_id is not None
    assert tok.pad_token_id != tok.eos_token_id
    for skill in SKILLS:
        for item in items([skill], "test", 60):
            prompt = f"{PROMPT_HEAD}{item['prompt']}{RESPONSE_HEAD}"
            assert len(tok(prompt)["input_ids"]) + 64 <= model.config.max_position_embeddings


def test_proxy_and_target_are_four_times_apart():
    load = transformers.AutoModelForCausalLM.from_pretrained
    assert (
        load(checkpoint("target")).num_parameters()
        >= 4 * load(checkpoint("proxy")).num_parameters()
    )


@pytest.mark.slow
def test_training_again_gives_the_same_bytes_and_another_seed_gives_others(tmp_path):
    from spice.sandbox.making.train import Schedule, make

    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        make("proxy", tmp_path / folder, Schedule(6, batch=8), seed)
    one, again, other = (
        (tmp_path / folder / "model.safetensors").read_bytes()
        for folder in ("one", "again", "other")
    )
    assert one == again != other
