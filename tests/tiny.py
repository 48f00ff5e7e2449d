"""Toy objects for the tests: a random Llama of two small layers, and a tokenised training set."""

import argparse
import random
import shutil
from pathlib import Path

import pyarrow as pa
import torch
import transformers

transformers.utils.logging.disable_progress_bar()

VOCABULARY = 128
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def model(kind: str = "llama", **changes):
    """A random model of one of transformers' types, the same at every call."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **SHAPE | changes))


def save_model(folder: Path, kind: str = "llama", dtype=torch.bfloat16) -> Path:
    """`model` in Hugging Face layout, Mistral's with a window that rows exceed."""
    model(kind, **{"sliding_window": 32} if kind == "mistral" else {}).to(dtype).save_pretrained(folder)
    return folder


def save_rows(path: Path, count: int = 24, seed: int = 0, longest: int = 40) -> Path:
    """Rows of 6 to `longest` tokens whose answer is the prompt's last token over and over: easy to learn."""
    rng = random.Random(seed)
    rows = {"input_ids": [], "answer_start": [], "language": [], "id": []}
    for i in range(count):
        prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(4, longest // 2))]
        rows["input_ids"].append(prompt + [prompt[-1]] * rng.randrange(2, longest // 2))
        rows["answer_start"].append(len(prompt))
        rows["language"].append("en")
        rows["id"].append(f"toy-{i}")
    schema = pa.schema(
        [
            ("input_ids", pa.list_(pa.int32())),
            ("answer_start", pa.int32()),
            ("language", pa.string()),
            ("id", pa.string()),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(pa.table(rows, schema=schema))
    return path


def train_cell(world: Path, folder: Path, monkeypatch, settings, cell):
    """Run the train stage on a cell of `world`'s Llama, with all it reads and writes in `folder`; the model it trained."""
    from maple.config import catalogue, environment, params
    from maple.models import loading
    from stages import train

    shutil.copytree(world / "llama", catalogue.models()[cell.base.model].folder(folder / "sources"))
    for part in ("train", "heldout"):
        save_rows(folder / "prepared" / cell.dataset / "tokens" / cell.base.model / f"{part}.arrow")
    monkeypatch.setattr(params.Params, "artifacts", folder)
    monkeypatch.setattr(params.Params, "work", folder / "work")
    monkeypatch.setattr(environment, "settle", lambda _: None)  # it would hide tensors from test_cell_cost.py
    made, make = [], loading.make_trainable
    monkeypatch.setattr(loading, "make_trainable", lambda *arguments: made.append(make(*arguments)) or made[0])
    train.main(settings, argparse.Namespace(name=cell.name))
    return made[0]
