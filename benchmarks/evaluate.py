"""Our scoring and generation beside lm-evaluation-harness: same model, same requests, seconds and agreement.

    python -m benchmarks.evaluate                                   # tiny model, all workloads
    python -m benchmarks.evaluate --shape mid --rows 24
    python -m benchmarks.evaluate --sources SOURCES                 # XCOPA's and zero-shot XQuAD's real rows
    python -m benchmarks.evaluate --device cuda --dtype bfloat16 --shape mistral-7b --rows 200

Random weights; what matters is the shape. The harness runs at each batch size (1, 16 and 64) and counts with its best;
both take turns, `--rounds` times, and count with their fastest. Both tokenise what they are given; making the
prompts is in neither time. Needs the test environment (requirements/test.txt). Run it on a quiet machine.
"""

import argparse
import dataclasses
import math
import os
import random
import sys
import time
from pathlib import Path

from maple.core.errors import MapleError, nearest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHAPES = {
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    # About 50 million parameters.
    "mid": {
        "vocab_size": 8192,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "mistral-7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
ROWS = {"tiny": 120, "mid": 24, "mistral-7b": 200}
# With --sources these are real, or it is an error; the others are where they are there.
REAL = ("xcopa", "xquad")
XQUAD_TOKENS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--rows", type=int, help="questions per workload")
    parser.add_argument("--only", help="workloads, with commas")
    parser.add_argument("--shots", default="0,4", help="0, 4 or 0,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", default="1,16,64", help="the harness's")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="ours")
    parser.add_argument("--sources", help="folder with datasets/<key>/<upstream path>")
    parser.add_argument("--language", default="vi", help="of the real rows")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ours-only", action="store_true", help="without the harness")
    arguments = parser.parse_args()

    import torch

    rows = arguments.rows or ROWS[arguments.shape]
    sizes = [] if arguments.ours_only else [int(size) for size in arguments.batch_sizes.split(",")]
    model, words = build(arguments.shape, arguments.device, getattr(torch, arguments.dtype))
    parameters = sum(p.numel() for p in model.parameters())
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{arguments.shape}: {parameters / 1e6:.1f} M parameters, {arguments.dtype}, {where}, {rows} questions each")
    print("workload          shots   ours s  tokens/s  harness s (batch)  ratio  largest difference  same choice")
    ratios: dict[int, list[float]] = {}
    for shots in map(int, arguments.shots.split(",")):
        for name, questions in workloads(rows, shots, arguments).items():
            # What a first call costs (memory, kernels) is nobody's speed.
            warm_ours, warm_theirs = sides(model, words, questions[:4], arguments.batch_tokens)
            warm_ours(), *(warm_theirs(size) for size in sizes[:1])
            ours, theirs = sides(model, words, questions, arguments.batch_tokens)
            found, mine, best, size = alternate(ours, theirs, sizes, arguments.rounds)
            line = f"{name:18s}{shots:5d} {mine:8.2f} {found.asked / mine:9.0f}"
            if sizes:
                line += f" {best:12.2f} ({size:2d})  {best / mine:5.1f}  {found.agreement}"
                if questions[0].options is not None:
                    ratios.setdefault(shots, []).append(best / mine)
            print(line, flush=True)
    for shots, values in ratios.items():
        print(
            f"{shots} shots, log-likelihood: geometric mean {math.prod(values) ** (1 / len(values)):.1f}, least {min(values):.1f}"
        )


def build(shape: str, device: str, dtype):
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        **SHAPES[shape],
        max_position_embeddings=8192,
        sliding_window=4096,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.05,
    )
    with torch.device(device):
        model = MistralForCausalLM(config).to(dtype).eval()
    return model, tokeniser()


def tokeniser():
    from maple.smoke import tokeniser as smoke

    made = smoke.make()
    made.pad_token = made.eos_token
    return made


# -- What is asked ---------------------------------------------------------------------------------------------------


def workloads(rows: int, shots: int, arguments) -> dict:
    """Questions by workload name."""
    from maple import tasks
    from maple.answering.questions import Sheet, questions, sheet
    from maple.config import params
    from maple.tasks.base import draw
    from maple.upstream.languages import of_task

    known = params.load().evaluation.tasks
    wanted = {
        "XCOPA": ("xcopa", {}),
        "XNLI words": ("xnli", {}),
        "Belebele letters": ("belebele", {}),
        "Belebele texts": ("belebele", {"prompt_set": "texts"}),
        "XQuAD written": ("xquad", {"max_new_tokens": XQUAD_TOKENS}),
    }
    found = {}
    for name, (task, changes) in wanted.items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        # All rows of a file, of which the first are asked: as in a full evaluation, questions on a passage stay
        # together.
        options = dataclasses.replace(known[task], limit=None, shots=shots, **changes)
        datasets = Path(arguments.sources or "") / "datasets"
        # XQuAD's shots come from MLQA, and Belebele has no rows to take any from.
        shot_task, shot_split = tasks.get(task).shots_from.get(options.split, (None, None))
        can_be_real = arguments.sources and (not shots or shot_task == task)
        if can_be_real and task in REAL:
            check_files(datasets, task, arguments.language, [options.split, *([shot_split] if shots else [])])
        if can_be_real and (datasets / task).exists() and arguments.language in of_task(task):
            asked = sheet(task, arguments.language, options, datasets, seed=42)
            asked = dataclasses.replace(asked, examples=asked.examples[:rows])
            name += f" {arguments.language}"
        else:
            form = tasks.get(task).form(options.prompt_set, "en", options.scoring)
            pool = draw(made(task, 40, seed=1), shots, seed=42)
            asked = Sheet(tasks.get(task), "en", options, form, tuple(map(form.shot, pool)), made(task, rows, seed=0))
        found[name] = questions(asked, room=8192, count=len)
    return found


def check_files(datasets: Path, task: str, language: str, splits: list[str]) -> None:
    """Raises MapleError where --sources lacks a task's rows: made ones in their place would be taken for real."""
    from maple.config import catalogue
    from maple.upstream.languages import of_task

    known = of_task(task)
    if language not in known:
        why = "upstream has no file for it"
        raise MapleError(
            f"{task} has no language '{language}'",
            why=why,
            do=f"{nearest(language, known)}, or name other workloads with --only",
        )
    for pattern in catalogue.datasets()[task].paths([language], splits):
        if not list((datasets / task).glob(pattern)):
            raise MapleError(
                f"{datasets / task / pattern} is not there",
                why="--sources asks for real rows",
                do=f"python -m stages.verify_rows --profile paper --task {task} --languages {language}, "
                "then --sources artifacts/verify/sources",
            )


def made(task: str, rows: int, seed: int) -> list:
    """Rows shaped as upstream's: two questions on a Belebele passage, five on XQuAD's, three hypotheses on a premise."""
    from maple.tasks.base import Example

    rng = random.Random(f"{task} {seed}")
    vocabulary = [
        "".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.choice((1, 2, 2, 3))))
        for _ in range(800)
    ]

    def words(low: int, high: int) -> str:
        return " ".join(rng.choice(vocabulary) for _ in range(rng.randint(low, high)))

    examples, shared = [], ""
    for number in range(rows):
        if number % {"belebele": 2, "xquad": 5, "xnli": 3}.get(task, 1) == 0:
            shared = words(*{"belebele": (60, 110), "xquad": (80, 160), "xnli": (8, 30)}.get(task, (5, 9)))
        if task == "xnli":
            fields, reference = {"premise": shared, "hypothesis": words(5, 14)}, rng.randrange(3)
        elif task == "xcopa":
            fields = {
                "premise": shared + ".",
                "choice1": words(4, 8),
                "choice2": words(4, 8),
                "question": rng.choice(("cause", "effect")),
            }
            reference = rng.randrange(2)
        elif task == "belebele":
            fields = {"passage": shared, "question": words(8, 18)} | {f"option{i}": words(2, 8) for i in (1, 2, 3, 4)}
            reference = rng.randrange(4)
        else:
            fields = {"context": shared, "question": words(7, 16) + "?", "answer": shared.split()[0]}
            reference = [fields["answer"]]
        examples.append(Example(str(number), "en", fields, reference))
    return examples


# -- Two ways to answer it -------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Found:
    """Answers of ours, tokens asked for, and how they agree with the harness's."""

    answers: list
    asked: int
    agreement: str = ""


def sides(model, tokeniser, questions, batch_tokens: int):
    """(ours, theirs): functions that answer all questions; theirs takes a batch size."""
    from maple.answering import generate, loglikelihood

    def ours() -> Found:
        usage, found = loglikelihood.Usage(), {}
        if questions[0].options is not None:
            batches = loglikelihood.score(
                model, tokeniser, [(q.prompt, q.options) for q in questions], batch_tokens, usage=usage
            )
        else:
            prompts = [q.prompt for q in questions]
            batches = generate.generate_batches(
                model, tokeniser, prompts, XQUAD_TOKENS, ["\n"], batch_tokens, usage=usage
            )
        for batch in batches:
            found |= batch
        return Found([found[i] for i in range(len(questions))], usage.asked)

    def theirs(batch_size: int) -> list:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        harness = HFLM(
            pretrained=model, tokenizer=tokeniser, batch_size=batch_size, softmax_dtype="float32", max_length=8192
        )
        if questions[0].options is None:
            settings = {"until": ["\n"], "max_gen_toks": XQUAD_TOKENS, "do_sample": False}
            return harness.generate_until(
                [Instance("generate_until", {}, (q.prompt, settings), 0) for q in questions], disable_tqdm=True
            )
        pairs = [(q.prompt, option) for q in questions for option in q.options]
        flat = iter(
            harness.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
        )
        return [[next(flat)[0] for _ in q.options] for q in questions]

    return ours, theirs


def alternate(ours, theirs, sizes: list[int], rounds: int) -> tuple[Found, float, float, int]:
    """(our answers with their agreement, our seconds, the harness's best seconds and batch size)."""
    import logging

    logging.disable(logging.WARNING)
    mine, others = math.inf, dict.fromkeys(sizes, math.inf)
    for _ in range(rounds):
        start = time.perf_counter()
        found = ours()
        mine = min(mine, time.perf_counter() - start)
        for size in sizes:
            start = time.perf_counter()
            answers = theirs(size)
            others[size] = min(others[size], time.perf_counter() - start)
    if not sizes:
        return found, mine, math.nan, 0
    if isinstance(answers[0], str):
        same = sum(a == b for a, b in zip(found.answers, answers, strict=True))
        found.agreement = f"{same} of {len(answers)} strings identical"
    else:
        pairs = [([o.logprob for o in a], b) for a, b in zip(found.answers, answers, strict=True)]
        largest = max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True))
        same = sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs)
        found.agreement = f"{largest:18.1e}  {same} of {len(pairs)}"
    best = min(others, key=others.get)
    return found, mine, others[best], best


if __name__ == "__main__":
    try:
        main()
    except MapleError as error:
        sys.exit(str(error))
