"""A base is loaded whole, or refused before its weights are read."""

import json
import shutil

import pytest
import safetensors.torch
import tiny
import torch

from maple.config.params import RecipeQuantisation
from maple.core.errors import MapleError
from maple.models import loading
from maple.models.shapes import Shape

CPU = torch.device("cpu")
NF4 = RecipeQuantisation("nf4", True)


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world / "llama", tmp_path / "llama")


def refused(folder, *words, bits=16):
    with pytest.raises(MapleError) as caught:
        loading.load_base(folder, bits, NF4, CPU)
    assert len(str(caught.value).splitlines()) == 3
    for word in words:
        assert word in str(caught.value)


def config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(folder, change):
    path = folder / "model.safetensors"
    found = safetensors.torch.load_file(path)
    change(found)
    safetensors.torch.save_file(found, path, {"format": "pt"})


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_a_checkpoint_with_its_own_quantisation_is_refused(folder, method):
    for bits in (4, 8, 16):
        config(folder, quantization_config={"quant_method": method, "bits": 4})
        refused(folder, f"quantised already ({method})", "set quantisation.bits", bits=bits)


def test_a_pickled_checkpoint_is_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "save it again with save_pretrained")


def test_shards_give_the_same_model_and_a_lost_or_cut_one_is_named(folder, world):
    model = loading.load_base(folder, 16, NF4, CPU)
    shutil.rmtree(folder)
    model.save_pretrained(folder, max_shard_size="100KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) == 2
    again = loading.load_base(folder, 16, NF4, CPU)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    content = (folder / shards[1]).read_bytes()
    (folder / shards[1]).write_bytes(content[:-1])
    refused(folder, shards[1], "cut off")
    (folder / shards[1]).unlink()
    refused(folder, shards[1], "missing")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../else.safetensors"}}')
    refused(folder, "outside its folder")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("keep", [0, 0.5, -1])
def test_cut_files_are_named(folder, name, keep):
    content = (folder / name).read_bytes()
    cut = (
        content[: int(len(content) * keep) if keep >= 0 else keep].rstrip(b"}\n")
        if name == "config.json"
        else content[: int(len(content) * keep) if keep >= 0 else keep]
    )
    (folder / name).write_bytes(cut)
    refused(folder, name, "cut off")


def test_cut_generation_settings_are_named(folder):
    """transformers passes over them, and with them over the tokens that end a text."""
    (folder / "generation_config.json").write_text('{"eos_token_id": 1')
    refused(folder, "generation_config.json")


def test_no_weights_and_no_model_at_all(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")
    refused(tmp_path / "nothing", "no model", "dvc repro download")


def test_an_adapters_folder_is_no_base(folder):
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "is not a base")


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_tensor_without_weights_is_refused(folder, bits):
    """transformers makes it up and warns."""
    weights(folder, lambda found: found.pop("model.layers.1.mlp.up_proj.weight"))
    refused(folder, "1 missing: model.layers.1.mlp.up_proj.weight", bits=bits)


def test_weights_without_a_place_are_refused(folder):
    weights(folder, lambda found: found.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}))
    refused(folder, "1 left over: model.layers.0.self_attn.q_proj.bias")


def test_a_config_of_another_shape_is_refused(folder):
    config(folder, intermediate_size=160)
    refused(folder, "llama")


def test_an_unknown_architecture_is_refused_and_no_program_of_its_folder_runs(folder, tmp_path):
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config(
        folder, model_type="own", auto_map={"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    )
    refused(folder, "cannot be loaded")
    assert not (tmp_path / "ran").exists()


def test_tied_embeddings_are_loaded_once_and_counted_once(tmp_path):
    tied = tiny.model(tie_word_embeddings=True).to(torch.bfloat16)
    tied.save_pretrained(tmp_path / "tied")
    model = loading.load_base(tmp_path / "tied", 16, NF4, CPU)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    shape = Shape.of_config(json.loads((tmp_path / "tied" / "config.json").read_text()))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    untied = Shape.of_config(tiny.model().config.to_dict())
    assert untied.parameters == sum(parameter.numel() for parameter in tiny.model().parameters())


def test_a_head_of_its_own_is_used_though_the_config_calls_it_tied(tmp_path):
    from safetensors.torch import load_file

    tiny.save_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    model, stored = loading.load_base(tmp_path, 16, NF4, CPU), load_file(tmp_path / "model.safetensors")
    assert model.lm_head.weight.equal(stored["lm_head.weight"])
    assert model.model.embed_tokens.weight.equal(stored["model.embed_tokens.weight"])
    assert not model.lm_head.weight.equal(model.model.embed_tokens.weight)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_weights_of_another_width_than_the_config_s_are_refused_at_every_bit_width(bits, tmp_path):
    """Quantised ones would be loaded without a word."""
    tiny.save_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    with pytest.raises(MapleError) as caught:
        loading.load_base(tmp_path, bits, NF4, CPU)
    assert len(str(caught.value).splitlines()) == 3
    assert bits == 16 or "6 of another shape: model.layers.0.mlp.down_proj.weight" in str(caught.value)
