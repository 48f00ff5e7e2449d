"""An adapter is loaded exactly, or refused before the first example with what, why and what to do."""

import dataclasses
import json
import shutil

import peft
import pytest
import safetensors.torch
import tiny
import torch

from maple.config import catalogue
from maple.config.params import RecipeQuantisation
from maple.core.errors import MapleError
from maple.models import adapter_check, loading

SOURCE = catalogue.models()["mistral-7b"]
LLAMA = catalogue.models()["llama-2-7b"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(3, 40)[None]


def base(**changes):
    return tiny.model(**changes).to(torch.bfloat16).requires_grad_(False).eval()


def trained(folder, on=None, **options):
    """An adapter as peft saves it, with other values in every tensor than it starts with; returns (folder, model)."""
    on = base() if on is None else on
    tuned = peft.get_peft_model(
        on, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM"} | options)
    )
    torch.manual_seed(1)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    config = tuned.peft_config["default"]
    config.base_model_name_or_path, config.revision = SOURCE.hub_id, SOURCE.revision
    tuned.save_pretrained(folder)
    return folder, tuned.eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A plain LoRA adapter; tests that change it copy it first."""
    return trained(tmp_path_factory.mktemp("adapters") / "plain")[0]


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "adapter")


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename(folder, change):
    """The weights file with each (key, tensor) as `change` gives it; None drops it."""
    path = folder / "adapter_model.safetensors"
    found = [change(key, tensor) for key, tensor in safetensors.torch.load_file(path).items()]
    safetensors.torch.save_file(
        {key: tensor.contiguous() for key, tensor in filter(None, found)}, path, {"format": "pt"}
    )


def refused(folder, *words, source=SOURCE, on=None, which=None):
    with pytest.raises(MapleError) as caught:
        loading.attach_adapter(base() if on is None else on, folder, source, which)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# -- What is loaded exactly --------------------------------------------------------------------------------------------

KINDS = {
    "plain": {},
    "two targets": {"target_modules": ["q_proj", "v_proj"]},
    "all linear layers": {"target_modules": "all-linear"},
    "a pattern of targets": {"target_modules": r".*\.self_attn\.(q|v)_proj"},
    "some layers": {"layers_to_transform": [1]},
    "excluded modules": {"exclude_modules": ["down_proj"]},
    "rank pattern": {"rank_pattern": {"q_proj": 8, "layers.1.self_attn.v_proj": 2}},
    "alpha pattern": {"alpha_pattern": {"k_proj": 32}},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "bias beside B": {"lora_bias": True},
    "gaussian start": {"init_lora_weights": "gaussian"},
    "the head too": {"target_modules": ["q_proj", "lm_head"]},
    "embedding as LoRA": {"target_modules": ["q_proj", "embed_tokens"]},
    "embedding and head whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "norms whole": {"modules_to_save": ["norm", "input_layernorm"]},
    "some tokens": {"trainable_token_indices": [5, 7]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_saves_is_loaded_to_the_bit(kind, tmp_path):
    folder, tuned = trained(tmp_path / "adapter", **KINDS[kind])
    loaded = loading.attach_adapter(base(), folder, SOURCE)
    with torch.no_grad():
        assert torch.equal(tuned(IDS).logits, loaded(IDS).logits)
        assert not torch.equal(base()(IDS).logits, loaded(IDS).logits)
    assert not loaded.training and loaded.adapter_notes == ()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["plain", "DoRA", "rank pattern", "embedding and head whole"])
@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_fits_its_base_at_each_width(kind, bits, tmp_path):
    """The head that a quantised base keeps whole, and shapes that a packed weight does not show."""
    on = tiny.save_model(tmp_path / "base")
    quantised = lambda: loading.load_base(on, bits, RecipeQuantisation("nf4", True), torch.device("cpu"))
    folder, tuned = trained(tmp_path / "adapter", quantised(), **KINDS[kind])
    loaded = loading.attach_adapter(quantised(), folder, SOURCE)
    with torch.no_grad():
        assert torch.equal(tuned(IDS).logits, loaded(IDS).logits)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "kind", ["plain", "DoRA", "embedding and head whole", "norms whole", "some tokens", "the head too"]
)
def test_our_forward_pass_has_the_adapters_parts(kind, tmp_path):
    """Scoring goes past the model's own forward: it must meet the head, norms and embedding that the adapter brings."""
    import toy

    from maple.answering import loglikelihood

    on = lambda: toy.model("mistral", window=64).requires_grad_(False)
    folder, _ = trained(tmp_path / "adapter", on(), **KINDS[kind])
    model, tokeniser = loading.attach_adapter(on(), folder, SOURCE), toy.tokeniser()
    (options,) = loglikelihood.loglikelihoods(model, tokeniser, [("The river runs", [" through", " valley"])], 100)
    for text, found in zip((" through", " valley"), options):
        ids = tokeniser.encode("The river runs" + text)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logits[i - 1, ids[i]]) for i in range(len(ids) - found.tokens, len(ids)))
        assert abs(found.logprob - expected) < 1e-4


def test_what_is_rounded_to_the_bases_precision_is_noted(tmp_path):
    folder, _ = trained(tmp_path / "adapter", modules_to_save=["lm_head"])
    rename(folder, lambda key, tensor: (key, tensor.float() + 1e-5 if "lm_head" in key else tensor))
    (note,) = loading.attach_adapter(base(), folder, SOURCE).adapter_notes
    assert "1 tensors" in note and "lm_head" in note


def test_an_adapter_that_does_nothing_is_noted(folder):
    rename(folder, lambda key, tensor: (key, torch.zeros_like(tensor) if "lora_B" in key else tensor))
    assert loading.attach_adapter(base(), folder, SOURCE).adapter_notes == (
        "every B of the adapter is zero: it is its base",
    )


# -- Keys that do not fit ----------------------------------------------------------------------------------------------


def test_renamed_keys_are_refused_and_named(folder):
    rename(folder, lambda key, tensor: (key.replace("model.layers", "model.language_model.layers"), tensor))
    refused(
        folder,
        "none of its 28 keys",
        "base_model.model.model.language_model.layers.0",
        "missing: base_model.model.model.layers.0",
    )


def test_some_keys_left_out_or_left_over_are_counted(folder):
    rename(folder, lambda key, tensor: None if "layers.1.mlp.up_proj" in key else (key, tensor))
    refused(folder, "2 keys are missing, 0 left over", "layers.1.mlp.up_proj.lora_A.weight")


def test_keys_with_an_adapters_name_in_them_are_refused(folder):
    rename(folder, lambda key, tensor: (key.replace("lora_A.weight", "lora_A.default.weight"), tensor))
    refused(folder, "14 keys are missing, 14 left over")


def test_keys_without_pefts_prefix_are_refused(folder):
    rename(folder, lambda key, tensor: (key.removeprefix("base_model.model."), tensor))
    refused(folder, "none of its 28 keys", "left over: model.layers.0")


def test_a_whole_tensor_that_fits_nothing_is_refused(folder):
    path = folder / "adapter_model.safetensors"
    found = safetensors.torch.load_file(path) | {"base_model.model.score.weight": torch.zeros(2, 64)}
    safetensors.torch.save_file(found, path, {"format": "pt"})
    refused(folder, "0 keys are missing, 1 left over", "score.weight")


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], [*ALL, "lm_head"]])
def test_other_targets_than_the_config_names_are_refused(folder, targets):
    edit(folder, target_modules=targets)
    refused(folder, "adapter_config.json targets", "the file has down_proj, gate_proj")


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 8},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"lora_bias": True},
    ],
)
def test_a_config_of_another_adapter_is_refused(folder, changes):
    edit(folder, **changes)
    refused(folder)


def test_an_alpha_for_no_module_is_refused(folder):
    """As after a renaming of modules: PEFT passes over it, and the scaling is silently the default."""
    edit(folder, alpha_pattern={"model.language_model.layers.0.self_attn.q_proj": 64})
    refused(folder, "its alpha_pattern names model.language_model")


def test_values_that_did_not_arrive_are_refused(folder, monkeypatch):
    load = peft.PeftModel.from_pretrained

    def forgetful(*given, **options):
        tuned = load(*given, **options)
        dict(tuned.named_parameters())["base_model.model.model.layers.1.mlp.up_proj.lora_B.default.weight"].data[
            3, 1
        ] += 1
        return tuned

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", forgetful)
    refused(folder, "was not loaded as it was saved", "layers.1.mlp.up_proj.lora_B")


def test_values_that_are_not_numbers_are_refused(folder):
    rename(
        folder,
        lambda key, tensor: (
            key,
            torch.full_like(tensor, float("nan")) if "layers.0.self_attn.q_proj.lora_B" in key else tensor,
        ),
    )
    refused(folder, "not numbers", "layers.0.self_attn.q_proj.lora_B")


# -- Another base ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 96},
        {"intermediate_size": 192},
        {"num_key_value_heads": 4},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
    ],
)
def test_a_base_of_another_shape_is_refused(folder, changes):
    refused(folder, SOURCE.hub_id, on=base(**changes))


def test_added_tokens_make_another_shape(tmp_path):
    on = base(vocab_size=tiny.VOCABULARY + 8)
    folder, _ = trained(tmp_path / "adapter", on, modules_to_save=["embed_tokens", "lm_head"])
    refused(folder, "size mismatch", "136")


def test_an_adapter_of_another_base_is_refused(folder):
    edit(folder, base_model_name_or_path="meta-llama/Llama-2-7b-chat-hf")
    refused(folder, "was trained on meta-llama/Llama-2-7b-chat-hf, not on mistralai/Mistral-7B-v0.1", "evaluate it on")


def test_an_adapter_of_another_revision_is_refused(folder):
    edit(folder, revision="0" * 40)
    refused(folder, "was trained on revision " + "0" * 40, SOURCE.revision)


def test_the_case_of_a_name_and_the_alternative_of_sources_yaml_are_the_same_base(folder):
    edit(folder, base_model_name_or_path=SOURCE.hub_id.lower())
    assert adapter_check.inspect(folder, SOURCE).notes == ()
    edit(folder, base_model_name_or_path=LLAMA.alternative["hub_id"], revision=LLAMA.alternative["revision"])
    assert adapter_check.inspect(folder, LLAMA).notes == ()


@pytest.mark.parametrize("name", [None, "/data/models/mistral", "./mistral", "mistral-7b", "C:\\models\\mistral"])
def test_a_base_that_is_not_known_is_noted(folder, name):
    edit(folder, base_model_name_or_path=name, revision=None)
    (note,) = loading.attach_adapter(base(), folder, SOURCE).adapter_notes
    assert "is not known" in note and (name or "nothing") in note


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_revision_that_is_not_known_is_noted(folder, revision):
    edit(folder, revision=revision)
    (note,) = adapter_check.inspect(folder, SOURCE).notes
    assert "revision" in note and (revision or "none") in note


def test_a_base_in_the_hub_s_cache_is_known_by_its_folder(folder, tmp_path):
    cache = tmp_path / "hub" / "models--mistralai--Mistral-7B-v0.1" / "snapshots" / SOURCE.revision
    found = adapter_check.base_in(cache)
    assert (found.hub_id, found.revision) == (SOURCE.hub_id, SOURCE.revision)
    assert adapter_check.inspect(folder, found).notes == ()
    refused(folder, "was trained on revision", source=adapter_check.base_in(cache.with_name("0" * 40)))
    assert adapter_check.base_in(tmp_path / "mistral") is None


def test_an_unnamed_base_is_noted(folder):
    (note,) = adapter_check.notes(folder)
    assert SOURCE.hub_id in note and adapter_check.inspect(folder).notes == (note,)


def test_the_notes_for_a_record_are_there_without_a_model(folder):
    edit(folder, revision=None)
    assert tuple(adapter_check.notes(folder, SOURCE)) == adapter_check.inspect(folder, SOURCE).notes
    edit(folder, base_model_name_or_path="a/b")
    with pytest.raises(MapleError, match="was trained on a/b"):
        adapter_check.notes(folder, SOURCE)


# -- Kinds of adapters that the file's tensors do not determine --------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "ADALORA"},
        {"peft_type": "LOKR"},
        {"peft_type": "P_TUNING"},
        {"task_type": "SEQ_CLS"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"alora_invocation_tokens": [5, 6]},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"megatron_config": {"a": 1}},
        {"use_qalora": True},
        {"target_parameters": ["mlp.experts.gate_up_proj"]},
        {"fan_in_fan_out": True},
        {"field_of_a_newer_peft": 0.5},
        {"r": None},
    ],
    ids=str,
)
def test_other_kinds_are_refused_before_a_base_is_loaded(folder, changes):
    edit(folder, **changes)
    with pytest.raises(MapleError, match="cannot be evaluated") as caught:
        adapter_check.inspect(folder, SOURCE)
    (name,) = changes
    assert name in str(caught.value) or str(changes[name]) in str(caught.value)


def test_an_unknown_field_that_is_off_is_let_pass(folder):
    edit(folder, field_of_a_newer_peft=None, another_one=False)
    adapter_check.inspect(folder, SOURCE)


def test_whole_modules_on_tied_embeddings_are_refused(tmp_path):
    folder, _ = trained(tmp_path / "adapter", modules_to_save=["embed_tokens"])
    refused(folder, "tied embeddings", on=base(tie_word_embeddings=True))


# -- Folders as other trainers leave them ------------------------------------------------------------------------------


def test_an_adapter_as_trl_leaves_it(folder):
    """A finished adapter, the states on the way to it, and pickled arguments, which are not opened."""
    for step in (50, 100):
        shutil.copytree(folder, folder / f"checkpoint-{step}", ignore=shutil.ignore_patterns("checkpoint-*"))
        (folder / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"never opened")
    (folder / "training_args.bin").write_bytes(b"never opened")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert loading.attach_adapter(base(), folder, SOURCE).adapter_notes == (
        "the adapter brings a chat template; prompts are put without one",
    )
    assert adapter_check.inspect(folder, SOURCE, "checkpoint-50").folder.name == "checkpoint-50"


def test_an_adapter_as_llama_factory_leaves_it_while_it_trains(folder, tmp_path):
    """States only: which one is meant cannot be known."""
    for step in (50, 100):
        shutil.copytree(folder, tmp_path / "run" / f"checkpoint-{step}")
    refused(tmp_path / "run", "several adapters", "checkpoint-100, checkpoint-50")
    loading.attach_adapter(base(), tmp_path / "run", SOURCE, "checkpoint-100")
    refused(tmp_path / "run", "no adapter 'checkpoint-7'", which="checkpoint-7")


def test_an_adapter_as_unsloth_leaves_it(folder):
    """It names its own copy of the base, quantised before; which weights that was cannot be checked from here."""
    about = {
        "base_model_class": "MistralForCausalLM",
        "parent_library": "transformers.models.mistral.modeling_mistral",
        "unsloth_fixed": True,
    }
    edit(folder, base_model_name_or_path="unsloth/mistral-7b-bnb-4bit", revision=None, auto_mapping=about)
    refused(folder, "unsloth/mistral-7b-bnb-4bit", f"write {SOURCE.hub_id} into its adapter_config.json")
    edit(folder, base_model_name_or_path=SOURCE.hub_id)
    assert len(loading.attach_adapter(base(), folder, SOURCE).adapter_notes) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_several_adapters_that_peft_saved_in_one_folder(tmp_path):
    folder, tuned = trained(tmp_path / "adapter")
    tuned.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    tuned.save_pretrained(folder)
    refused(folder, "several adapters", "., second")
    loading.attach_adapter(base(), folder, SOURCE, ".")


def test_stored_embeddings_beside_the_low_rank_matrices_are_compared_too(tmp_path):
    """save_embedding_layers, as trainers set it: PEFT puts these keys straight into the base."""
    folder, tuned = trained(tmp_path / "adapter")
    tuned.save_pretrained(folder, save_embedding_layers=True)
    edit(folder, base_model_name_or_path=SOURCE.hub_id, revision=SOURCE.revision)
    rename(folder, lambda key, tensor: (key, tensor + 1 if key.endswith("lm_head.weight") else tensor))
    loaded = loading.attach_adapter(base(), folder, SOURCE)
    assert torch.equal(loaded.get_base_model().lm_head.weight, base().lm_head.weight + 1)


# -- Files that are cut, empty or pickled ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, -1])
def test_a_cut_file_is_said_to_be_cut(folder, name, keep):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    refused(folder, "cannot be read", "cut off or", name)


def test_a_file_without_tensors_a_list_for_a_config_and_bytes_that_are_no_text(folder):
    safetensors.torch.save_file({}, folder / "adapter_model.safetensors")
    refused(folder, "holds no tensor")
    (folder / "adapter_config.json").write_text("[]")
    refused(folder, "no peft_type")
    (folder / "adapter_config.json").write_bytes(b"\xff\xfe{}")
    refused(folder, "cut off or damaged")


def test_a_pickled_adapter_is_not_opened(folder):
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    refused(folder, "adapter_model.bin only", "save it again with save_pretrained")


def test_a_folder_without_an_adapter_is_said_to_have_none(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "adapter_config.json and adapter_model.safetensors are missing")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    refused(tmp_path, "adapter_model.safetensors is missing")


def test_our_own_adapters_name_their_base_by_its_pin(tmp_path):
    from maple.training import adapter_folder

    _, tuned = trained(tmp_path / "other")
    (tmp_path / "own").mkdir()
    adapter_folder.save(tuned, tmp_path / "own", SOURCE)
    assert loading.attach_adapter(base(), tmp_path / "own", SOURCE).adapter_notes == ()
    other = dataclasses.replace(SOURCE, revision="0" * 40)
    refused(tmp_path / "own", "was trained on revision", source=other)
