"""What one GPU does with a 7B model, in minutes: training, reading and writing, ours beside TRL and the harness.

    python benchmarks/gpu.py --minutes 8 --throughput benchmarks/throughput.csv
    python benchmarks/gpu.py --self-check               minutes on a CPU, with a tiny model: everything runs

Needs torch, transformers, peft and bitsandbytes; no DVC, no network. TRL and lm-evaluation-harness run where they are
installed. Random weights of Mistral-7B's shape, rows with the lengths of instruction sets, the paper profile's recipe:
64 rows a step, dropout, `auto` settings. The most important figures come first, and what is done is kept, so a run cut
short is worth its time; the aims stand at the end, with the least that was measured of each. Each setting's first two
steps do not count: they compile and find their memory.

Shares of the peak are those of a bfloat16 matrix product measured here. Useful work is forward and input gradient of
the frozen matrices and the low-rank products in training, forward alone in reading; attention is left out.
"""

import argparse
import dataclasses
import datetime
import functools
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from benchmarks import evaluate, throughput, train
from maple.answering import decoder_layer, generate, loglikelihood, writing
from maple.config import params
from maple.models import elementwise, loading
from maple.models.shapes import Shape
from maple.planning import auto, cell_cost
from maple.training import batches, loop

STARTED = time.monotonic()
PAPER = params.load("paper")
# Steps of a training setting, those that do not count included.
STEPS, WARM = 6, 2
# What one H100 should reach at the paper profile's settings.
AIMS = {
    "training at 16 bits": (14_000, "tokens/s"),
    "training at 4 bits": (13_000, "tokens/s"),
    "training at 8 bits": (6_500, "tokens/s"),
    "training at 16 bits, share": (50, "% of the peak"),
    "training, TRL's best": (2.5, "x"),
    "training, our own stock": (1, "x"),
    "reading at 16 bits, share": (60, "% of the peak"),
    "writing at 16 bits, XQuAD": (12_000, "tokens/s"),
    "writing at 16 bits, AlpacaEval": (12_000, "tokens/s"),
    "log-likelihood, the harness's best": (1.5, "x"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="nothing is begun that would end later")
    parser.add_argument("--shape", choices=train.SHAPES, default="mistral-7b")
    parser.add_argument("--only", help="sections, with commas, in this order: " + ", ".join(SECTIONS))
    parser.add_argument("--throughput", help="put the rows into this table, benchmarks/throughput.csv for the plan")
    parser.add_argument("--self-check", action="store_true", help="tiny model on any machine")
    arguments = parser.parse_args()
    if arguments.self_check:
        arguments.shape = "tiny"
    train.silence()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        bench = Bench(arguments, Path(scratch))
        print(f"{bench.card}, torch {torch.__version__}: bfloat16 products at {bench.peak / 1e12:,.1f} TFLOP/s")
        for name in arguments.only.split(",") if arguments.only else SECTIONS:
            if bench.minutes_left() < SECTIONS[name][1] and not arguments.self_check:
                bench.say(f"{name}: no time left")
                continue
            try:
                SECTIONS[name][0](bench)
            except Exception as error:  # noqa: BLE001  a section that fails is reported, and the others still run
                bench.say(f"{name}: {type(error).__name__}: {str(error)[:400]}")
            gc.collect()
            torch.cuda.empty_cache()
        print("\n" + aims(bench.reached), flush=True)


class Bench:
    """The card, the model on disk, one loaded base at a time, and the table."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path):
        import transformers

        self.arguments, self.scratch, self.folder = arguments, scratch, scratch / "model"
        self.small = arguments.self_check
        self.device = loading.device()
        self.card = train.device_name(self.device.type)
        hidden, layers, heads, kv_heads, intermediate, vocabulary, window = train.SHAPES[arguments.shape]
        config = transformers.MistralConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=intermediate,
            vocab_size=vocabulary if not self.small else 4096,
            sliding_window=window,
            max_position_embeddings=8192,
            bos_token_id=0,
            eos_token_id=1,
        )
        self.shape = Shape.of_config(config.to_dict())
        torch.manual_seed(0)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model = model.to_empty(device=self.device)
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(self.device)
        for name, parameter in model.named_parameters():
            parameter.data.fill_(1) if "norm" in name else parameter.data.normal_(std=0.02)
        model.save_pretrained(self.folder)
        self._base, self._loaded = model.eval(), (16, False)
        self.peak = self._peak()
        # Aim -> figures that it is judged by, each with its setting.
        self.reached: dict[str, list[tuple[float, str]]] = {}

    def reach(self, aim: str, figure: float, setting: str) -> None:
        if aim in AIMS:
            self.reached.setdefault(aim, []).append((figure, setting))

    def minutes_left(self) -> float:
        return self.arguments.minutes - (time.monotonic() - STARTED) / 60

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", flush=True)

    def _peak(self) -> float:
        size = 512 if self.small else 8192
        a = torch.randn(size, size, device=self.device, dtype=torch.bfloat16)
        best = min(self.timed(lambda: a @ a) for _ in range(8))
        return 2 * size**3 / best

    def timed(self, function) -> float:
        start = self.now()
        function()
        return self.now() - start

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def base(self, bits: int, unpacked: bool = False):
        """The frozen base; the one in memory is dropped first."""
        if self._loaded != (bits, unpacked):
            self._base = None
            gc.collect()
            torch.cuda.empty_cache()
            start = self.now()
            self._base = loading.load_base(self.folder, bits, PAPER.recipe.quantisation, self.device, unpacked)
            self._loaded = (bits, unpacked)
            self.say(f"{bits} bits{', unpacked' if unpacked else ''}: loaded in {self.now() - start:.0f} s")
        return self._base

    def drop(self) -> None:
        self._base, self._loaded = None, None
        gc.collect()
        torch.cuda.empty_cache()

    def keep(self, work: str, bits: int, rank: int, rate: float, flops: float, settings: str, **more) -> None:
        """Print one row, and put it into the table in place of an older one of the same setting."""
        peak_gb = torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else 0.0
        row = {
            "device": self.card,
            "shape": self.arguments.shape,
            "work": work,
            "bits": bits,
            "rank": rank,
            "path": "shared",
            "checkpointing": "no",
            "settings": settings,
            "tokens_per_second": round(rate),
            "share_of_peak": round(rate * flops / self.peak, 2),
            "peak_gb": round(peak_gb, 1),
            "torch": torch.__version__,
            "source": "benchmarks/gpu.py",
            "date": datetime.date.today().isoformat(),
        } | more
        self.say(
            f"{work:7} {bits:2} bits rank {rank:3} {row['path']:14} {rate:9,.0f} tokens/s {100 * row['share_of_peak']:4.0f} %"
            f" of peak {peak_gb:5.1f} GB  {settings}"
        )
        if self.arguments.throughput:
            throughput.remember([row], Path(self.arguments.throughput))


def aims(reached: dict[str, list[tuple[float, str]]]) -> str:
    """A table of the aims, each with the least of its figures: it has to hold everywhere."""
    lines = ["aim for one H100                          at least             measured"]
    for aim, (wanted, unit) in AIMS.items():
        found = reached.get(aim)
        told = f"{min(found)[0]:8,.5g}  {min(found)[1]}, the least of {len(found)}" if found else "     not run"
        lines.append(f"{aim:40} {f'{wanted:,} {unit}':20} {told}")
    return "\n".join([*lines, "the whole grid in 60 hours: `make plan PROFILE=paper` computes it from these rows"])


def tests(bench: Bench) -> None:
    """What only a card does, and the products of unpacked weights; fast and wrong would be worth nothing."""
    files = ["tests/models/test_loading.py", "tests/training/test_on_gpu.py"]
    # Whether a step can be recorded decides a speed, not a number: write_16 says it.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not can_be_recorded", *files]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MAPLE_TEST_DEVICE": bench.device.type}, capture_output=True
    )
    said = done.stdout.decode(errors="replace").strip().splitlines() or [done.stderr.decode(errors="replace")]
    bench.say(f"tests: {said[-1]}")
    if done.returncode:
        sys.exit("\n".join(said[-40:]))


# -- Training --------------------------------------------------------------------------------------------------------


def rows_of(bench: Bench, count: int) -> batches.Rows:
    path = bench.scratch / f"rows.{count}.arrow"
    if not path.exists():
        train.save_rows(train.realistic_rows(count, bench.shape.vocabulary, random.Random(0)), path)
    return batches.Rows(path)


def recipe_of(bench: Bench, bits: int, rank: int, **changes):
    """The paper profile's recipe with its `auto`s chosen for this card."""
    dropout = changes.pop("dropout", PAPER.recipe.lora.dropout)
    given = dataclasses.replace(
        PAPER.recipe,
        lora=dataclasses.replace(PAPER.recipe.lora, dropout=dropout),
        optimiser="adamw",
        max_steps=STEPS,
        checkpoint_steps=10**6,
        divergence_bound=1e9,
        **({"batch_rows": 4} if bench.small else {}),
        **changes,
    )
    counts = cell_cost.RowCounts.of(rows_of(bench, given.batch_rows * STEPS))
    return auto.recipe(given, bench.shape, bits, rank, counts, loading.memory_bytes()), counts


def train_once(bench: Bench, bits: int, rank: int, note: str = "", **changes) -> float:
    """Tokens per second of our training in a setting; the row is kept. Without changes it is the paper's, with its aim."""
    is_paper = not (note or changes)
    recipe, counts = recipe_of(bench, bits, rank, **changes)
    base = bench.base(bits, recipe.unpack_4bit)
    torch.manual_seed(1)
    tuned = loading.make_trainable(base, recipe, rank)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rows = rows_of(bench, recipe.batch_rows * STEPS)
    stamps, curve = [bench.now()], []

    def report(row: dict) -> None:
        stamps.append(bench.now())
        curve.append(row)

    with tempfile.TemporaryDirectory() as state:
        outcome = loop.finetune(tuned, rows, recipe, 42, {}, Path(state) / "state.pt", report)
    tuned.unload()
    seconds, tokens = stamps[-1] - stamps[WARM], sum(row["tokens"] for row in curve[WARM:])
    share = sum(row["answer_tokens"] for row in curve[WARM:]) / tokens
    flops = 4 * (bench.shape.block_parameters + bench.shape.vocabulary * bench.shape.hidden * share)
    flops += 6 * bench.shape.lora_parameters(rank, recipe.lora.targets)
    estimate = cell_cost.memory(bench.shape, bits, rank, recipe, counts, bench.device.type == "cuda").peak / 1e9
    settings = f"{outcome.micro_batch_tokens} tokens a pass, dropout {recipe.lora.dropout:g}"
    settings += ", unpacked once" if bits == 4 and recipe.unpack_4bit else ""
    bench.keep(
        "train",
        bits,
        rank,
        tokens / seconds,
        flops,
        ", ".join(filter(None, [settings, note])),
        path=recipe.path,
        checkpointing="yes" if recipe.gradient_checkpointing else "no",
    )
    if is_paper:
        bench.reach(f"training at {bits} bits", tokens / seconds, f"rank {rank}")
        share = 100 * tokens / seconds * flops / bench.peak
        bench.reach(f"training at {bits} bits, share", share, f"rank {rank}")
    losses = " ".join(f"{row['loss']:.4f}" for row in curve[:3])
    bench.say(f"        memory estimate {estimate:.1f} GB; losses {losses}")
    return tokens / seconds


def train_16(bench: Bench) -> None:
    train_once(bench, 16, 8)
    train_once(bench, 16, 128)


def levers(bench: Bench) -> None:
    """What each change gives, at 16 bits and rank 8."""
    train_once(bench, 16, 8, path="fused", note="low-rank products in float32")
    enough = elementwise.LARGE
    elementwise.LARGE = 1 << 62
    try:
        train_once(bench, 16, 8, note="element-wise steps not compiled")
    finally:
        elementwise.LARGE = enough
    train_once(bench, 16, 8, dropout=0.0)
    train_once(bench, 16, 8, micro_batch_tokens=2048)


def stock(bench: Bench) -> None:
    """Transformers' and PEFT's own modules under our packing, ours beside them."""
    for bits in (16, 8, 4):
        theirs = train_once(bench, bits, 8, path="stock", micro_batch_tokens=4096)
        bench.reach("training, our own stock", train_once(bench, bits, 8) / theirs, f"{bits} bits")


def train_4(bench: Bench) -> None:
    train_once(bench, 4, 8)
    train_once(bench, 4, 128)


def train_4_packed(bench: Bench) -> None:
    train_once(bench, 4, 8, unpack_4bit=False)


def train_8(bench: Bench) -> None:
    train_once(bench, 8, 8)


def against_trl(bench: Bench, bits: int, rank: int) -> None:
    """TRL on the same rows and effective batch, without dropout; its best of a few settings, ours beside it."""
    import trl  # noqa: F401

    ours = train_once(bench, bits, rank, dropout=0.0)
    best = 0.0
    bench.drop()
    arguments = argparse.Namespace(
        shape=bench.arguments.shape, steps=STEPS, dropout=0.0, checkpointing=False, device=bench.device.type
    )
    recipe, _ = recipe_of(bench, bits, rank, dropout=0.0)
    world = train.World.__new__(train.World)
    world.arguments, world.folder, world.scratch, world.device = arguments, bench.folder, bench.scratch, bench.device
    world.shape, world.recipe = bench.shape, dataclasses.replace(recipe, warmup=0.0)
    world.rows = rows_of(bench, recipe.batch_rows * STEPS)
    world.plan = batches.steps(len(world.rows), recipe.batch_rows, 1, STEPS, 42)
    for setting in [("group_by_length", False, 16), ("packing", False, 4), ("group_by_length", True, 16)]:
        if bench.minutes_left() < 0.7 and not bench.small:
            break
        micro = setting[2] if not bench.small else 2
        run = train.trl(world, bits, rank, setting[0], setting[1], micro, rows=recipe.batch_rows)
        theirs = sum(run.tokens[WARM:]) / sum(run.seconds[WARM:])
        bench.say(f"TRL {setting}: {theirs:,.0f} tokens/s, {run.peak_gb:.1f} GB; ours {ours / theirs:.2f} x")
        best = max(best, theirs)
        gc.collect()
    if best:
        bench.reach("training, TRL's best", ours / best, f"{bits} bits, rank {rank}")


# -- Evaluation ------------------------------------------------------------------------------------------------------


def asked(bench: Bench, count: int, shots: int, only: str | None = None) -> dict:
    return evaluate.workloads(count, shots, argparse.Namespace(only=only, sources=None, language="vi"))


def passes(bench: Bench, bits: int) -> int:
    return auto.evaluation(PAPER.evaluation, bench.shape, bits, loading.memory_bytes()).batch_tokens


def profile_writing(bench: Bench) -> None:
    """Where the time of a decoding step goes: the longest kernels of 16 steps."""
    from torch.profiler import ProfilerActivity, profile

    prompts = [q.prompt for q in asked(bench, 500, 0, "XQuAD written")["XQuAD written"]]
    asking = bench.base(16), evaluate.tokeniser(), prompts, 17, [], passes(bench, 16)
    list(generate.generate_batches(*asking))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        seconds = bench.timed(lambda: list(generate.generate_batches(*asking)))
    kernels = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    bench.say(f"16 steps of {len(prompts)} answers, with the prompts: {seconds:.2f} s; on the card:")
    for event in kernels[:14]:
        print(f"{event.self_device_time_total / 1e3:9.1f} ms {event.count:6}  {event.key[:100]}")
    print(f"{sum(event.self_device_time_total for event in kernels) / 1e3:9.1f} ms in all", flush=True)


def with_adapter(bench: Bench, bits: int, rank: int):
    """The base with an adapter, as `answer` asks it."""
    recipe, _ = recipe_of(bench, bits, rank)
    torch.manual_seed(2)
    return loading.make_trainable(bench.base(bits, bits == 4), recipe, rank).eval()


def read_once(bench: Bench, model, bits: int, rank: int, count: int) -> None:
    tokeniser = evaluate.tokeniser()
    for name, questions in asked(bench, count, 0, "XNLI words,Belebele letters").items():
        requests = [(q.prompt, q.options) for q in questions]
        for _ in range(2):  # the first time finds memory and kernels
            usage, start = loglikelihood.Usage(), bench.now()
            for _batch in loglikelihood.score(model, tokeniser, requests, passes(bench, bits), usage=usage):
                pass
            seconds = bench.now() - start
        rate, flops = usage.computed / seconds, bench.shape.forward_flops
        bench.keep("read", bits, rank, rate, flops, name)
        bench.reach(f"reading at {bits} bits, share", 100 * rate * flops / bench.peak, f"{name}, rank {rank}")


def write_once(bench: Bench, model, bits: int, rank: int, count: int, note: str = "") -> None:
    """Tokens written per second; the time to read the prompts is measured with answers of one token and taken off.
    Without a note it is as answers are written, with its aim."""
    tokeniser = evaluate.tokeniser()
    prompts = [q.prompt for q in asked(bench, count, 0, "XQuAD written")["XQuAD written"]]
    for name, texts, length in (("XQuAD", prompts, 33), ("AlpacaEval", [p[-160:] for p in prompts], 129)):
        seconds = []
        for limit in (2, 1, length if not bench.small else 5):  # the first finds memory and kernels
            usage, start = loglikelihood.Usage(), bench.now()
            done = {}
            for batch in generate.generate_batches(
                model, tokeniser, texts, limit, [], passes(bench, bits), usage=usage
            ):
                done |= batch
            seconds.append(bench.now() - start)
        rate = len(texts) * (limit - 1) / (seconds[2] - seconds[1])
        settings = f"{name}, {len(texts)} answers of {limit} tokens, prompts read in {seconds[1]:.2f} s"
        if note:
            bench.say(f"write   {bits:2} bits rank {rank:3} {rate:24,.0f} tokens/s  {settings}, {note}")
            continue
        bench.keep("write", bits, rank, rate, bench.shape.forward_flops, settings)
        bench.reach(f"writing at {bits} bits, {name}", rate, f"rank {rank}")


def read_16(bench: Bench) -> None:
    read_once(bench, bench.base(16), 16, 0, 400 if not bench.small else 8)


def write_16(bench: Bench) -> None:
    write_once(bench, bench.base(16), 16, 0, 1000 if not bench.small else 8)


def levers_writing(bench: Bench) -> None:
    """What each change gives while an adapter's answers are written."""
    model, count = with_adapter(bench, 16, 8), 1000 if not bench.small else 8
    with mock.patch.object(writing, "can_be_recorded", lambda ready: False):
        write_once(bench, model, 16, 8, count, "steps computed, not replayed")
        with mock.patch.object(decoder_layer, "joined", lambda modules, dtype: None):
            write_once(bench, model, 16, 8, count, "and each layer a product of its own")
            with mock.patch.object(writing, "behind", lambda device: 0):
                write_once(bench, model, 16, 8, count, "and each step waited for")
    model.unload()


def answer_adapter(bench: Bench, bits: int, read: int, written: int) -> None:
    """An adapter of rank 8 on so many questions that are read and so many that are written."""
    model = with_adapter(bench, bits, 8)
    read_once(bench, model, bits, 8, read if not bench.small else 8)
    write_once(bench, model, bits, 8, written if not bench.small else 8)
    model.unload()


def harness_16(bench: Bench) -> None:
    """lm-evaluation-harness on the same questions, at the better of two batch sizes."""
    import lm_eval  # noqa: F401

    model, tokeniser = bench.base(16), evaluate.tokeniser()
    for shots, count in ((0, 96), (4, 24)):
        for name, questions in asked(bench, count if not bench.small else 6, shots).items():
            if bench.minutes_left() < 0.5 and not bench.small:
                return
            ours, theirs = evaluate.sides(model, tokeniser, questions, passes(bench, 16))
            ours()
            mine = bench.timed(ours)
            best, size = min(timings(bench, theirs, (16, 64) if not shots else (16,)))
            bench.say(f"{name}, {shots} shots: ours {mine:.2f} s, harness {best:.2f} s ({size}): {best / mine:.1f} x")
            if questions[0].options is not None:
                bench.reach("log-likelihood, the harness's best", best / mine, f"{name}, {shots} shots")


def timings(bench: Bench, theirs, sizes: tuple[int, ...]) -> Iterator[tuple[float, int]]:
    for size in sizes:
        try:
            yield bench.timed(functools.partial(theirs, size)), size
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()


# Minutes that a section takes on an H100; none is begun with less left. First what nobody has measured since it was
# changed, then what an aim is judged by, then what explains it.
SECTIONS = {
    "tests": (tests, 1.0),
    "write_16": (write_16, 0.4),
    "answer_adapter": (functools.partial(answer_adapter, bits=16, read=400, written=1000), 0.5),
    "train_16": (train_16, 0.5),
    "harness_16": (harness_16, 0.7),
    "levers_writing": (levers_writing, 0.5),
    "train_8": (train_8, 0.6),
    "train_4": (train_4, 0.5),
    "trl_16": (functools.partial(against_trl, bits=16, rank=8), 0.8),
    "profile_writing": (profile_writing, 0.2),
    "read_16": (read_16, 0.3),
    "stock": (stock, 1.2),
    "answer_4": (functools.partial(answer_adapter, bits=4, read=200, written=1000), 0.5),
    "answer_8": (functools.partial(answer_adapter, bits=8, read=100, written=500), 0.7),
    "trl_8": (functools.partial(against_trl, bits=8, rank=8), 0.8),
    "trl_4": (functools.partial(against_trl, bits=4, rank=8), 0.8),
    "trl_128": (functools.partial(against_trl, bits=16, rank=128), 0.8),
    "levers": (levers, 0.8),
    "train_4_packed": (train_4_packed, 0.3),
}

if __name__ == "__main__":
    main()
