"""Training speed: ours beside TRL's SFTTrainer and transformers' Trainer, on the same model, LoRA, bits and rows.

    python benchmarks/train.py                                      mid-size model, CPU, all bit widths
    python benchmarks/train.py --shape mistral-7b --bits 4 --device cuda
    python benchmarks/train.py --self-check                         a minute on the tiny model: everything runs

TRL first runs every setting of SETTINGS once (after the first bit width: the FASTEST of them, and those that could not
run there); its best then runs in turns with ours and the plain Trainer, so that a busy machine slows all alike. Rates
are the median over the rounds of tokens per second of optimiser steps, the first step of each round left out.
`--dropout 0` (the default here) makes the losses comparable digit by digit.
"""

import argparse
import dataclasses
import datetime
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from benchmarks import throughput

# hidden, layers, heads, kv heads, intermediate, vocabulary, sliding window
SHAPES = {
    "tiny": (64, 2, 4, 2, 192, 512, None),
    "mid": (512, 10, 8, 8, 1376, 16384, None),
    "llama-2-7b": (4096, 32, 32, 32, 11008, 32000, None),
    "mistral-7b": (4096, 32, 32, 8, 14336, 32000, 4096),
}
BATCH_ROWS = 16
MAX_LENGTH = 512
# TRL's settings: how it batches, mixed precision or not, rows per micro-batch (packing: packs of 1,024 tokens).
SETTINGS = [
    (batching, mixed, micro)
    for batching in ("padding", "group_by_length", "packing")
    for mixed in (True, False)
    for micro in ((1, 2) if batching == "packing" else (4, 8, 16))
]
FASTEST = 5
# Tokens of a pack.
PACK = 1024
# Ours, by recipe.path: `stock` is packing, attention by row and the chunked head on PEFT's own modules.
OURS = {"fused": "ours", "fused_bfloat16": "ours, low rank in bfloat16", "stock": "ours, packing alone"}


def main() -> None:
    arguments = parse()
    import torch

    from maple.core import storage

    if arguments.cpu_time:
        arguments.threads = 1
        globals()["clock"] = time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    silence()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        world = World(arguments, Path(scratch))
        for bits in arguments.bits:
            for rank in arguments.rank:
                results += compare(world, bits, rank)
                if arguments.csv:
                    storage.write_csv(Path(arguments.csv), results, list(results[0]))
                if arguments.throughput:
                    ours = [row | {"work": "train", "source": "benchmarks/train.py"} for row in results if row["path"]]
                    throughput.remember(ours, Path(arguments.throughput))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="mid")
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 8, 4])
    parser.add_argument("--rank", type=int, nargs="+", default=[8])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps in a round, the first not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--micro-batch-tokens", type=int, default=2048)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, for all systems")
    parser.add_argument("--systems", nargs="+", default=[*OURS, "trl", "trainer"], choices=[*OURS, "trl", "trainer"])
    parser.add_argument("--trl-setting", help="skip the search, e.g. padding,True,8")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time of one thread: for a busy machine"
    )
    parser.add_argument("--csv", help="also write the results to this file")
    parser.add_argument("--throughput", help="put our speeds into this table, benchmarks/throughput.csv for the plan")
    parser.add_argument("--self-check", action="store_true", help="tiny model, few steps, all systems")
    arguments = parser.parse_args()
    if arguments.throughput and arguments.cpu_time:
        parser.error("--throughput takes wall time: the plan's hours are those of a clock")
    if arguments.self_check:
        arguments.shape, arguments.steps, arguments.rounds = "tiny", 2, 1
    return arguments


def silence() -> None:
    import logging
    import warnings

    import datasets
    import transformers

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


class World:
    """The model on disk, the rows in memory, and how to load a fresh LoRA model."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path):
        import torch
        import transformers

        from maple.config import params
        from maple.models.shapes import Shape
        from maple.training import batches

        self.arguments = arguments
        self.settings = SETTINGS
        self.folder, self.scratch = scratch / "model", scratch
        self.device = torch.device(arguments.device)
        hidden, layers, heads, kv_heads, intermediate, vocabulary, window = SHAPES[arguments.shape]
        sizes = {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": intermediate,
            "vocab_size": vocabulary,
        }
        if window:
            config = transformers.MistralConfig(**sizes, sliding_window=window)
        else:
            config = transformers.LlamaConfig(**sizes)
        torch.manual_seed(0)
        with self.device:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(self.folder)
        self.shape = Shape.of_config(config.to_dict())
        recipe = params.load("smoke").recipe
        self.recipe = dataclasses.replace(
            recipe,
            lora=dataclasses.replace(recipe.lora, dropout=arguments.dropout),
            batch_rows=BATCH_ROWS,
            epochs=1,
            max_steps=arguments.steps,
            warmup=0.0,
            learning_rate=2e-4,
            checkpoint_steps=10**6,
            micro_batch_tokens=arguments.micro_batch_tokens,
            gradient_checkpointing=arguments.checkpointing,
            divergence_bound=1e9,
        )
        rows = realistic_rows(BATCH_ROWS * arguments.steps, vocabulary, random.Random(0))
        save_rows(rows, scratch / "rows.arrow")
        self.rows = batches.Rows(scratch / "rows.arrow")
        # The order in which every system takes the rows.
        self.plan = batches.steps(len(self.rows), BATCH_ROWS, 1, arguments.steps, 42)

    def load(self, bits: int, rank: int):
        import torch

        from maple.models import loading

        gc.collect()
        base = loading.load_base(self.folder, bits, self.recipe.quantisation, self.device)
        torch.manual_seed(1)
        return loading.make_trainable(base, self.recipe, rank)

    def examples(self) -> list[dict]:
        order = [index for step in self.plan for index in step]
        return [{"input_ids": self.rows[i][0].tolist(), "answer_start": self.rows[i][1]} for i in order]


def realistic_rows(count: int, vocabulary: int, rng: random.Random) -> dict[str, list]:
    """Lengths as in instruction sets: log-normal, prompts of about 70 tokens and answers of about 110, cut at 512."""
    rows = {"input_ids": [], "answer_start": [], "language": [], "id": []}
    for number in range(count):
        prompt = min(max(int(rng.lognormvariate(4.25, 0.5)), 20), MAX_LENGTH - 8)
        answer = min(max(int(rng.lognormvariate(4.5, 0.9)), 2), MAX_LENGTH - prompt)
        rows["input_ids"].append([rng.randrange(3, vocabulary) for _ in range(prompt + answer)])
        rows["answer_start"].append(prompt)
        rows["language"].append("en")
        rows["id"].append(str(number))
    return rows


def save_rows(rows: dict[str, list], path: Path) -> None:
    """As the prepare stage writes them."""
    import pyarrow as pa

    kinds = {"input_ids": pa.list_(pa.int32()), "answer_start": pa.int32(), "language": pa.string(), "id": pa.string()}
    schema = pa.schema(list(kinds.items()))
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(pa.table(rows, schema=schema))


@dataclasses.dataclass
class Run:
    seconds: list[float]  # of each optimiser step
    losses: list[float]
    answer_tokens: list[int]
    tokens: list[int]
    peak_gb: float = 0.0

    @property
    def rates(self) -> tuple[float, float]:
        """Answer tokens and non-padding tokens per second, without the first step."""
        passed = sum(self.seconds[1:])
        return sum(self.answer_tokens[1:]) / passed, sum(self.tokens[1:]) / passed


def ours(world: World, bits: int, rank: int, path: str) -> Run:
    from maple.training import loop

    model = world.load(bits, rank)
    stamps = [now(world.device)]
    with tempfile.TemporaryDirectory() as state, peak(world.device) as memory:
        outcome = loop.finetune(
            model,
            world.rows,
            dataclasses.replace(world.recipe, path=path),
            42,
            {},
            Path(state) / "state.pt",
            lambda row: stamps.append(now(world.device)),
        )
    column = lambda name: [row[name] for row in outcome.curve]  # noqa: E731
    return Run(differences(stamps), column("loss"), column("answer_tokens"), column("tokens"), memory[0])


def trl(world: World, bits: int, rank: int, batching: str, mixed: bool, micro: int, rows: int = BATCH_ROWS) -> Run:
    """One epoch of TRL; `rows` per optimiser step, as ours."""
    from trl import SFTConfig, SFTTrainer

    examples = world.examples()
    packing = batching == "packing"
    if packing:
        # As many tokens a step as the rows of an unpacked step have.
        tokens = sum(len(e["input_ids"]) for e in examples) / world.arguments.steps
        accumulate = max(round(tokens / PACK / micro), 1)
        columns = [
            {
                "input_ids": e["input_ids"],
                "completion_mask": [int(i >= e["answer_start"]) for i in range(len(e["input_ids"]))],
            }
            for e in examples
        ]
    else:
        accumulate = rows // micro
        columns = [labelled(e) for e in examples]
    options = SFTConfig(
        **common(world, micro, accumulate, mixed),
        packing=packing,
        completion_only_loss=True,
        max_length=PACK if packing else None,
        train_sampling_strategy="group_by_length" if batching == "group_by_length" else "sequential",
        dataset_kwargs=None if packing else {"skip_prepare_dataset": True},
    )
    return hugging_face(world, bits, rank, SFTTrainer, options, columns, {"processing_class": tokeniser(world)})


def trainer(world: World, bits: int, rank: int) -> Run:
    import torch
    from transformers import Trainer, TrainingArguments

    def collate(examples):
        longest = max(len(e["input_ids"]) for e in examples)
        pad = lambda name, value: torch.tensor([e[name] + [value] * (longest - len(e[name])) for e in examples])  # noqa: E731
        mask = [[1] * len(e["input_ids"]) + [0] * (longest - len(e["input_ids"])) for e in examples]
        return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": torch.tensor(mask)}

    options = TrainingArguments(**common(world, 8, BATCH_ROWS // 8, True), train_sampling_strategy="sequential")
    return hugging_face(
        world, bits, rank, Trainer, options, [labelled(e) for e in world.examples()], {"data_collator": collate}
    )


def labelled(example: dict) -> dict:
    ids, start = example["input_ids"], example["answer_start"]
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


def common(world: World, micro: int, accumulate: int, mixed: bool) -> dict:
    recipe = world.recipe
    return {
        "output_dir": str(world.scratch / "out"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "bf16": mixed,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": recipe.max_grad_norm,
        "optim": "adamw_torch",
        "weight_decay": recipe.weight_decay,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": world.device.type == "cpu",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "remove_unused_columns": False,
        "dataloader_pin_memory": world.device.type == "cuda",
    }


def hugging_face(world: World, bits: int, rank: int, kind, options, columns: list[dict], more: dict) -> Run:
    """Train one epoch with a (subclass of) transformers' Trainer, with a clock on its optimiser steps."""
    import datasets
    from transformers import PrinterCallback, TrainerCallback

    stamps, losses, answers, tokens = [], [], [], []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            stamps.append(now(world.device))

        def on_step_end(self, *_, **__):
            stamps.append(now(world.device))

        def on_log(self, args, state, control, logs, **__):
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    class Counted(kind):
        """Counts the tokens of each optimiser step as they are fed."""

        def get_batch_samples(self, *args, **kwargs):
            samples, items = super().get_batch_samples(*args, **kwargs)
            answers.append(int(sum((s["labels"] != -100).sum() for s in samples)))
            # Without an attention mask (packing), nothing is padded.
            tokens.append(
                int(
                    sum(s["attention_mask"].sum() if "attention_mask" in s else s["input_ids"].numel() for s in samples)
                )
            )
            return samples, items

    with peak(world.device) as memory:
        running = Counted(
            model=world.load(bits, rank),
            args=options,
            train_dataset=datasets.Dataset.from_list(columns),
            callbacks=[Clock()],
            **more,
        )
        running.remove_callback(PrinterCallback)
        running.train()
    return Run(differences(stamps), losses, answers, tokens, memory[0])


def tokeniser(world: World):
    """TRL wants one; the rows are tokenised already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {str(i): i for i in range(3, world.shape.vocabulary)}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def compare(world: World, bits: int, rank: int) -> list[dict]:
    """Find TRL's best setting, run all systems in turns, print and return a table."""
    import torch

    arguments = world.arguments
    runs: dict[str, list[Run]] = {name: [] for name in arguments.systems}
    setting = None
    if "trl" in arguments.systems:
        setting = best_setting(world, bits, rank)
    for _ in range(arguments.rounds):
        for name, done in runs.items():
            if name == "trl":
                done.append(trl(world, bits, rank, *setting))
            elif name == "trainer":
                done.append(trainer(world, bits, rank))
            else:
                done.append(ours(world, bits, rank, name))
    label = OURS | {"trl": f"TRL {setting}", "trainer": "Trainer, padding, micro 8"}
    rates = {
        name: [statistics.median(rate) for rate in zip(*(run.rates for run in done))] for name, done in runs.items()
    }
    reference = rates.get("trl") or next(iter(rates.values()))
    print(f"\n{arguments.shape}, {bits} bits, rank {rank}, {arguments.device}, dropout {arguments.dropout:g}")
    print(f"bfloat16 matrix product peak here and now: {peak_flops(world) / 1e9:,.0f} GFLOP/s")
    print(f"{'':42}answer tok/s   tokens/s  ratio  % of peak  peak GB  estimate  loss of the first steps")
    table = []
    for name, (answer, token) in rates.items():
        share = useful_flops(world, rank, answer / token) * token / peak_flops(world)
        losses = runs[name][0].losses[:3]
        estimated = estimated_gb(world, bits, rank, name) if name in OURS else None
        print(
            f"{label[name]:42}{answer:12,.0f} {token:10,.0f} {answer / reference[0]:6.2f} {100 * share:10.0f} "
            f"{runs[name][0].peak_gb:8.2f} {'' if estimated is None else f'{estimated:.2f}':>9}"
            f"  {' '.join(f'{x:.4f}' for x in losses)}",
            flush=True,
        )
        table.append(
            {
                "system": label[name],
                "path": name if name in OURS else "",
                "shape": arguments.shape,
                "bits": bits,
                "rank": rank,
                "device": device_name(arguments.device),
                "threads": torch.get_num_threads(),
                "clock": "processor" if arguments.cpu_time else "wall",
                "dropout": arguments.dropout,
                "checkpointing": "yes" if arguments.checkpointing else "no",
                "answer_tokens_per_second": round(answer, 1),
                "tokens_per_second": round(token, 1),
                "ratio": round(answer / reference[0], 3),
                "share_of_peak": round(share, 3),
                "peak_gb": round(runs[name][0].peak_gb, 3),
                "estimated_gb": "" if estimated is None else round(estimated, 3),
                "losses": " ".join(f"{x:.4f}" for x in losses),
                "torch": torch.__version__,
                "date": datetime.date.today().isoformat(),
            }
        )
    return table


def estimated_gb(world: World, bits: int, rank: int, path: str) -> float:
    """What `make plan` would say of the peak, with the lengths of these rows."""
    from maple.planning import cell_cost

    recipe, rows = dataclasses.replace(world.recipe, path=path), cell_cost.RowCounts.of(world.rows)
    return cell_cost.memory(world.shape, bits, rank, recipe, rows, world.device.type == "cuda").peak / 1e9


def device_name(kind: str) -> str:
    """As benchmarks/devices.csv has it, else as the driver has it."""
    import torch

    from maple.planning import cell_cost

    if kind == "cpu":
        return "CPU"
    found = cell_cost.device_named(torch.cuda.get_device_name())
    return found.name if found else torch.cuda.get_device_name()


def best_setting(world: World, bits: int, rank: int) -> tuple[str, bool, int]:
    """TRL's fastest setting, each tried once. A setting that cannot run says why and drops out."""
    if world.arguments.trl_setting:
        batching, mixed, micro = world.arguments.trl_setting.split(",")
        return batching, mixed == "True", int(micro)
    found, failed = {}, []
    for setting in world.settings:
        if world.arguments.self_check and setting[2] not in (2, 8):
            continue
        try:
            found[setting] = trl(world, bits, rank, *setting).rates[0]
            print(f"  TRL {setting}: {found[setting]:,.0f} answer tokens/s", file=sys.stderr, flush=True)
        except Exception as error:
            print(f"  TRL {setting}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(setting)
    fastest = sorted(found, key=found.get, reverse=True)
    world.settings = fastest[:FASTEST] + failed
    return fastest[0]


def useful_flops(world: World, rank: int, answer_share: float) -> float:
    """FLOPs that one token needs: forward and input gradient of the frozen matrices (the head for answer tokens
    only), and the low-rank products with both their gradients. Attention scores are left out. The last layer counts in
    full for all systems, though our fused paths leave out what no answer token needs of it (3 % of all in `mid`)."""
    lora = world.shape.lora_parameters(rank, world.recipe.lora.targets)
    head = world.shape.vocabulary * world.shape.hidden * answer_share
    return 4 * (world.shape.block_parameters + head) + 6 * lora


clock = time.perf_counter
_peak: dict[str, float] = {}


def peak_flops(world: World) -> float:
    """Best rate of a bf16 matrix product, measured here and now, FLOP/s."""
    import torch

    key = world.device.type
    if key not in _peak:
        n = 2048 if key == "cpu" else 8192
        a = torch.randn(n, n, device=world.device, dtype=torch.bfloat16)
        best = float("inf")
        for _ in range(8):
            started = now(world.device)
            a @ a
            best = min(best, now(world.device) - started)
        _peak[key] = 2 * n**3 / best
    return _peak[key]


def now(device) -> float:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return clock()


def differences(stamps: list[float]) -> list[float]:
    return [b - a for a, b in zip(stamps, stamps[1:])]


class peak:
    """Peak GPU memory inside the block, GB (0 on a CPU)."""

    def __init__(self, device):
        self.device, self.found = device, [0.0]

    def __enter__(self):
        import torch

        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return self.found

    def __exit__(self, *_):
        import torch

        if self.device.type == "cuda":
            self.found[0] = torch.cuda.max_memory_allocated() / 1e9


if __name__ == "__main__":
    main()
