"""What a checkpoint must have, what it is known by, and what LoRA adds to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from spice.errors import InputError
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.storage.seals import publish_sealed

CONF = Path(__file__).parents[2] / "conf"
MakeCheckpoint = Callable[..., Path]
LORA = Lora(r=4, alpha=8, dropout=0.0, targets="all-linear")


def checkpoint(folder: Path, **changes: Any) -> Checkpoint:
    return Checkpoint(**{"path": str(folder), "dtype": "float32"} | changes)


@pytest.fixture
def folder(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Path:
    """A copy of a whole checkpoint, to be spoilt."""
    return Path(shutil.copytree(make_checkpoint(), tmp_path / "checkpoint"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


def edit_weight(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[7] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """The same weights in two files with an index, as large models come."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    placed = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(placed.values()):
        part = {name: weights[name] for name in names if placed[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def refusal(folder: Path | str, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint(Path(folder), **changes).check("proxy")
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- check -----------------------------------------------------------------------------------


def test_whole_checkpoints_pass(folder: Path) -> None:
    checkpoint(folder).check("proxy")
    shard(folder)
    checkpoint(folder).check("proxy")
    assert checkpoint(folder).load()


def test_a_name_on_the_hub_is_not_looked_up_by_check() -> None:
    hub = Checkpoint("org/name", "bfloat16")
    assert not hub.is_local
    hub.check("model")
    for path in ("/no/such", "./name", "../a/b", "~/model", "name", "a/b/c"):
        assert Checkpoint(path, "float32").is_local


def test_a_folder_goes_before_the_same_name_on_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    relative = Checkpoint(f"{folder.parent.name}/checkpoint", "float32")
    assert relative.is_local
    relative.check("model")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == f"proxy.path: no such folder: {tmp_path}/no"
    (tmp_path / "file").write_text("")
    assert "no such folder" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder) == f"proxy.path: {folder} has no {name}"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_weights_are_not_an_alternative(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == (f"proxy.path: {folder} has no *.safetensors; convert it first")
    (folder / name).write_bytes(b"")
    assert f"(it holds {name}, which would have to be unpickled)" in refusal(folder)


def test_an_adapter_is_no_model(folder: Path) -> None:
    told = {"base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    # Beside a model it would be put into that one without a word.
    assert "merge it into org/base" in refusal(folder)
    (folder / "config.json").unlink()
    assert "holds an adapter (adapter_config.json) and not a whole model" in refusal(folder)


def test_gguf_alone_is_no_model(folder: Path) -> None:
    (folder / "model-q4.gguf").write_bytes(b"GGUF")
    checkpoint(folder).check("proxy")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    assert "holds model-q4.gguf, and GGUF is not read" in refusal(folder)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_a_quantised_base_is_refused_with_the_way_out(folder: Path, key: str) -> None:
    edit_json(folder / "config.json", **{key: None})
    checkpoint(folder).check("proxy")
    edit_json(folder / "config.json", **{key: {"quant_method": "bitsandbytes"}})
    said = refusal(folder)
    assert said.startswith(f"proxy.path: {folder} is quantised (bitsandbytes)")
    assert "quantization=4bit or 8bit beside its path" in said


def test_another_tokenizer_s_files_come_with_the_way_out(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    assert "has no tokenizer.json; make it from tokenizer.model once" in refusal(folder)


def test_eyes_without_a_language_model_of_their_own_are_refused(folder: Path) -> None:
    told = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    assert "save its text part (llama) as a checkpoint of its own" in refusal(folder)


@pytest.mark.parametrize("named", [5, None, ["model.safetensors"]])
def test_an_index_that_names_no_file_is_refused(folder: Path, named: Any) -> None:
    index = {"weight_map": {"model.norm.weight": named}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "model.norm.weight must name a file" in refusal(folder)


def test_a_link_to_nowhere_is_no_weight(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "gone")
    assert "has no *.safetensors" in refusal(folder)


def test_weights_under_another_name_are_not_those_of_the_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert "neither model.safetensors nor its index" in refusal(folder)


def test_a_shard_that_is_missing_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "lacks model-00002-of-00002.safetensors, which its index lists" in refusal(folder)


def test_code_of_its_own_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})
    assert "needs code of its own (auto_map), which is not run" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", '{"model_type": ', "config.json is not valid JSON: Expecting value"),
        ("config.json", "[]", "config.json must hold a JSON object"),
        ("model.safetensors.index.json", "{", "index.json is not valid JSON"),
        ("model.safetensors.index.json", "{}", "index.json has no weight_map"),
    ],
)
def test_broken_json_is_named(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    assert message in refusal(folder)


def test_an_unknown_precision_is_refused(folder: Path) -> None:
    assert refusal(folder, dtype="int8").startswith("dtype=int8: must be float32")


# -- reading ---------------------------------------------------------------------------------


def loading_error(act: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_architecture_that_is_not_known_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="mystery")
    assert "mystery" in loading_error(checkpoint(folder).config)
    assert str(folder) in loading_error(checkpoint(folder).load)


def test_an_architecture_that_is_no_language_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vit"}')
    assert "cannot be loaded" in loading_error(checkpoint(folder).load)


def test_a_model_without_a_limit_of_positions_has_none(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    # Llama's class has a limit of its own; a network without positions has not.
    assert checkpoint(folder).context() == 2048
    (folder / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
    assert checkpoint(folder).context() is None


@pytest.mark.parametrize("context", [0, 1])
def test_a_context_without_room_for_an_answer_is_refused(folder: Path, context: int) -> None:
    edit_json(folder / "config.json", max_position_embeddings=context)
    assert f"max_position_embeddings={context}" in loading_error(checkpoint(folder).context)


def test_code_of_its_own_is_not_run_even_unchecked(folder: Path, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (folder / "evil.py").write_text(trap)
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit_json(folder / "config.json", auto_map=classes, model_type="evil")
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    for act in (checkpoint(folder).config, checkpoint(folder).load, checkpoint(folder).tokenizer):
        loading_error(act)
    assert not (tmp_path / "ran").exists()


def test_a_weight_that_is_missing_is_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    lacking = {k: v for k, v in weights.items() if k != name}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    for act in (checkpoint(folder).load, checkpoint(folder).outline):
        assert f"lacks the weight {name}" in loading_error(act)


def test_fewer_layers_than_there_are_weights_for_are_refused(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=1)
    said = loading_error(checkpoint(folder).outline)
    assert "has the weight model.layers.1." in said
    assert "of a layer that config.json does not ask for" in said


def test_half_an_expert_is_refused(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_checkpoint("mixtral"), tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if "experts.3.w1" not in k}
    assert len(lacking) < len(weights)
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    for act in (checkpoint(folder).load, checkpoint(folder).outline):
        assert f"{folder} cannot be loaded" in loading_error(act)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_moe", "mixtral"])
def test_an_outline_is_the_loaded_model_without_its_weights(
    make_checkpoint: MakeCheckpoint, family: str
) -> None:
    subject = checkpoint(make_checkpoint(family))
    outline, loaded = subject.outline(), subject.load()
    assert {p.device.type for p in outline.parameters()} == {"meta"}
    assert [(n, p.shape) for n, p in outline.named_parameters()] == [
        (n, p.shape) for n, p in loaded.named_parameters()
    ]
    assert subject.context() == 128


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=40)
    said = loading_error(checkpoint(folder).load)
    assert "proj.weight is [" in said
    assert "config.json asks for [" in said


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_model_is_loaded_for_evaluation_in_its_precision(folder: Path, dtype: str) -> None:
    model = checkpoint(folder, dtype=dtype).load()
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert checkpoint(folder).context() == 128


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_tokenizer_is_the_one_in_the_files(
    make_checkpoint: MakeCheckpoint, character_tokenizer: Any, family: str
) -> None:
    """Beside a Qwen2 configuration AutoTokenizer would make Qwen2's own."""
    found = checkpoint(make_checkpoint(family)).tokenizer()
    assert found.get_vocab() == character_tokenizer.get_vocab()
    text = "Say 'hi' 2 times.\n"
    assert found.decode(found(text)["input_ids"]) == text
    assert len(found(text)["input_ids"]) == len(text)


def test_a_missing_pad_token_is_stood_in_for(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    found = checkpoint(folder).tokenizer()
    assert found.pad_token_id == found.eos_token_id
    assert found.padding_side == "right"


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    size = len(tokenizer)
    tokenizer.add_tokens(["one more"])
    tokenizer.save_pretrained(folder)
    assert f"has a token {size}, the model only {size}" in loading_error(
        checkpoint(folder).tokenizer
    )


def test_a_broken_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json cannot be read" in loading_error(checkpoint(folder).tokenizer)


# -- digest ----------------------------------------------------------------------------------


def test_the_digest_knows_neither_place_nor_time(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (moved / "README.md").write_text("not part of it")
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    digests = {checkpoint(place).digest(tmp_path / "memo") for place in (folder, moved)}
    assert len(digests) == 1


def test_the_digest_knows_every_weight_and_file(folder: Path, tmp_path: Path) -> None:
    def digest() -> str:
        return checkpoint(folder).digest(tmp_path / "memo")

    digests = [digest()]
    edit_weight(folder, "model.layers.1.mlp.up_proj.weight", 1.5)
    digests.append(digest())
    edit_json(folder / "config.json", rms_norm_eps=1e-4)
    digests.append(digest())
    edit_json(folder / "tokenizer_config.json", bos_token="</s>")
    digests.append(digest())
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    digests.append(digest())
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    digests.append(digest())
    assert len(set(digests)) == 6


def test_the_digest_is_remembered_until_a_file_changes(folder: Path, tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    first = checkpoint(folder).digest(memo)
    (record,) = memo.iterdir()
    publish_sealed(record, lambda path: path.write_text(json.dumps({"digest": "remembered"})))
    assert checkpoint(folder).digest(memo) == "remembered"
    os.utime(folder / "model.safetensors")
    assert checkpoint(folder).digest(memo) == first


def test_the_memory_is_not_taken_in_by_a_restored_time(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    first = checkpoint(folder).digest(tmp_path)
    stat = weights.stat()
    edit_weight(folder, "model.norm.weight", 3.0)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_size == stat.st_size
    assert checkpoint(folder).digest(tmp_path) != first


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_are_no_numbers_are_refused_every_time(
    folder: Path, tmp_path: Path, value: float, sharded: bool
) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    edit_weight(folder, name, value)
    if sharded:
        shard(folder)
    for _ in range(2):  # a refusal must not be remembered as an answer
        said = loading_error(lambda: checkpoint(folder).digest(tmp_path / "memo"))
        assert f"the weight {name} holds NaN or infinite values" in said
        assert ".safetensors" in said


@pytest.mark.parametrize("spoil", [lambda b: b[:-5], lambda b: b[:4], lambda b: b"\xff" * len(b)])
def test_a_damaged_file_of_weights_is_named(
    folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    said = loading_error(lambda: checkpoint(folder).digest(tmp_path / "memo"))
    assert said.startswith(f"{path}: not a readable safetensors file")


def test_a_cache_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = loading_error(lambda: checkpoint(folder).digest(tmp_path / "file" / "weights"))
    assert said.startswith(f"cache_dir: {tmp_path}/file/weights cannot be written")


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    said = loading_error(Checkpoint("no-such/model", "float32").folder)
    assert said.startswith("no-such/model cannot be fetched: ")
    assert "use model=local model.path=FOLDER" in said


# -- sizes and LoRA --------------------------------------------------------------------------


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize(
    ("name", "parameters", "theta"),
    [
        ("llama2_7b", 6_738_415_616, 1e4),
        ("qwen2_7b", 7_615_616_512, 1e6),
        ("qwen2_0_5b", 494_032_768, 1e6),
        ("qwen2_1_5b", 1_543_714_304, 1e6),
        ("smollm2_135m", 134_515_008, 1e5),
    ],
)
def test_the_architectures_have_their_published_sizes(
    name: str, parameters: int, theta: float
) -> None:
    config = composed(f"model={name}", f"proxy={name}")
    assert config.model == config.proxy
    model = instantiate(config.model, _convert_="all").skeleton()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.config.rope_parameters["rope_theta"] == theta


def test_lora_has_the_published_size_on_the_papers_smallest_proxy() -> None:
    config = composed("proxy=qwen2_0_5b")
    lora = instantiate(config.lora, _convert_="all")
    assert (lora.r, lora.alpha, lora.dropout, lora.targets) == (16, 32, 0.05, "all-linear")
    model = lora.attach(instantiate(config.proxy, _convert_="all").skeleton(), seed=0)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 8_798_208


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_skeleton_is_the_loaded_model_without_its_weights(
    make_checkpoint: MakeCheckpoint, family: str
) -> None:
    subject = checkpoint(make_checkpoint(family))
    shapes = [
        {name: p.shape for name, p in model.named_parameters()}
        for model in (subject.skeleton(), subject.load())
    ]
    assert shapes[0] == shapes[1]


def adapter(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    model = LORA.attach(checkpoint(folder).load(), seed)
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def test_lora_is_drawn_from_its_seed_alone(folder: Path) -> None:
    torch.manual_seed(1)
    first = adapter(folder, seed=5)
    torch.manual_seed(2)
    again, other = adapter(folder, seed=5), adapter(folder, seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name, value in first.items():
        if "lora_A" in name:
            assert not torch.equal(value, other[name])
        else:
            assert not value.any()
    assert sum("lora_A" in name for name in first) == 2 * 7  # all linear layers of both blocks
    assert not any("lm_head" in name for name in first)


def test_lora_leaves_the_global_generator_alone(folder: Path) -> None:
    model = checkpoint(folder).load()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    LORA.attach(model, seed=5)
    assert torch.equal(torch.rand(4), expected)


def test_a_fresh_adapter_changes_nothing(folder: Path) -> None:
    ids = torch.arange(10)[None]
    plain, adapted = checkpoint(folder).load(), LORA.attach(checkpoint(folder).load(), seed=0)
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, adapted.eval()(ids).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "^r=0: must be a whole number of at least 1"),
        ({"dropout": 1.0}, r"^dropout=1.0: must be a number in \[0, 1\)"),
        ({"dropout": -0.1}, "^dropout=-0.1"),
    ],
)
def test_an_impossible_adapter_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Lora(**{"r": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"} | change)


def test_some_layers_can_be_chosen(folder: Path) -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, targets=("q_proj", "v_proj"))
    model = lora.attach(checkpoint(folder).load(), seed=0)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 2
    assert all("q_proj" in name or "v_proj" in name for name in names)
