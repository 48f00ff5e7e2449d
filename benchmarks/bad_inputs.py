"""Bad inputs, one at a time: each must end in one clear message and an exit status, and nothing may count as done.

    python benchmarks/bad_inputs.py RUN --rows benchmarks/bad_inputs.csv

RUN is a clone in which `make reproduce` of the smoke profile has finished; it is copied. For each input one file is
changed, or a `-S`, a name or a judge's answer is wrong; the output of the stage is taken away, and the stage is run as a
user runs it. It must fail, say once what, why and what to do, show no traceback, and leave the output away and everything
else below artifacts/ as it was. The last line counts.
"""

import argparse
import csv
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import trials  # noqa: E402

CHECK = "python -m stages.check"
TRAIN = "python -m stages.train --name experiment"
ANSWER = "python -m stages.answer --name experiment"
SCORE = "python -m stages.score --name experiment"
JUDGE = "python -m stages.judge"
COLLECT = "python -m stages.collect"
# What each command leaves when it succeeds, below artifacts/smoke.
MAKES = {TRAIN: "adapters/experiment", ANSWER: "answers/experiment", SCORE: "scores/experiment"}
MAKES |= {JUDGE: "judgements", COLLECT: "collected"}


@dataclass(frozen=True)
class Case:
    """`change` turns the bytes of `path` (the first file that it matches) into bad ones; `says` must be in the message."""

    kind: str
    name: str
    command: str
    says: str
    path: str = ""
    change: Callable[[bytes], bytes] = lambda content: content
    makes: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    # Of a judge's endpoint: status, headers and body of every answer.
    answers: tuple[int, dict[str, str], bytes] | None = None


def key(dotted: str, value: object) -> Callable[[bytes], bytes]:
    """A change of one key of a YAML file; `value` may be a function of the old one."""

    def change(content: bytes) -> bytes:
        found = yaml.safe_load(content)
        *blocks, last = dotted.split("/" if "/" in dotted else ".")
        block = found
        for name in blocks:
            block = block[name]
        if value is KeyError:
            del block[last]
        else:
            block[last] = value
        return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).encode()

    return change


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def line(number: int, text: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number] = text
        return b"\n".join(lines)

    return change


def parquet(change: Callable) -> Callable[[bytes], bytes]:
    """A change of a Parquet file's table."""

    def changed(content: bytes) -> bytes:
        import pyarrow
        import pyarrow.parquet

        target = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(pyarrow.BufferReader(content))), target)
        return target.getvalue().to_pybytes()

    return changed


def column(name: str, of: Callable[[list], list]) -> Callable:
    def change(table):
        import pyarrow

        values = pyarrow.array(of(table[name].to_pylist()))
        return table.set_column(table.schema.names.index(name), name, values)

    return change


def unzipped(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda content: gzip.compress(change(gzip.decompress(content)), mtime=0)


def record(**fields: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | fields).encode()


def judged(preference: str) -> Callable[[bytes], bytes]:
    return lambda content: f'{{"key": "{"0" * 32}", "preference": {preference}}}\n'.encode() + content


def of_params() -> list[Case]:
    wrong = {
        "lora.r": [(0, "1 to 4096"), ("eight", "1 to 4096"), (10**9, "1 to 4096")],
        "recipe.learning_rate": [(0, "above 0"), (float("nan"), "above 0"), ("fast", "above 0")],
        "recipe.schedule": [("cosin", "did you mean 'cosine'")],
        "recipe.lora.targets": [([], "not empty"), (["q_proj", "q_proj"], "twice"), (["q_pro"], "did you mean")],
        "grid.ranks": [([8, 8], "twice"), ([], "not empty")],
        "grid.bases": [(["mistral-7b-5bit"], "names no base")],
        "train.seed": [(-1, "4294967295")],
        "prepare.max_length": [(1, "from 32")],
        "datasets.alpaca.languages": [(["eng"], "unknown alpaca language"), (["en", "en"], "twice")],
        "evaluation.tasks": [({}, "empty")],
        "evaluation.tasks.xcopa.languages": [(["de"], "unknown xcopa language")],
        "evaluation.tasks.xnli.shots": [(9, "0 to 8")],
        "judge.annotator": [("../x", "annotator")],
        "root": [("..", "outside of the repository")],
        "profile": [("../../x", "small letters")],
        "recipe.learning_rat": [(1, "did you mean 'learning_rate'")],
    }
    found = [
        Case("parameters", f"{name}: {value!r}", CHECK, says, "params.yaml", key(name, value))
        for name, values in wrong.items()
        for value, says in values
    ]
    whole = {
        "a key that is missing": (key("recipe.schedule", KeyError), "is missing"),
        "a key that stands there twice": (lambda old: old.replace(b"  r: 8", b"  r: 8\n  r: 16", 1), "twice"),
        "not YAML": (lambda old: old.replace(b"lora:", b"lora: [", 1), "not valid YAML"),
        "UTF-16": (lambda old: old.decode().encode("utf-16"), "not UTF-8"),
        "an empty file": (lambda old: b"", "holds no keys"),
    }
    return found + [
        Case("parameters", name, CHECK, says, "params.yaml", change) for name, (change, says) in whole.items()
    ]


def of_options() -> list[Case]:
    wrong = {
        "lora.r=0": "1 to 4096",
        "quantisation.bits=5": "4, 8, 16",
        "dataset=alpacca": "did you mean 'alpaca'",
        "model=mistral-7B": "did you mean 'mistral-7b'",
        "train.learning_rate=fast": "above 0",
    }
    found = [
        Case("`-S` values", f"-S {value}", f"dvc exp run -S {value} score_experiment", says)
        for value, says in wrong.items()
    ]
    names = {
        f"{TRAIN[: -len('experiment')]}'x/../../../y'": "names no cell",
        f"{TRAIN[: -len('experiment')]}mistral-7b-4bit.alpaca.r0.s42": "names no cell",
        f"{ANSWER[: -len('experiment')]}mistral-7b-5bit": "names no base",
        f"{ANSWER[: -len('experiment')]}llama-2-13b-4bit": "did you mean 'llama-2-7b'",
        "python -m stages.prepare --dataset ../x": "no training set",
        "python -m stages.check --profile papr": "did you mean 'paper'",
        "python -m stages.plan --claim nonsense": "nonsense",
        "python -m stages.score --model nowhere --tasks xcopa --out work/bad": "is no folder",
        "python -m stages.score --model maple/smoke/bases/mistral-7b --tasks xcoppa --out work/bad": "did you mean",
        "python -m stages.score --model maple/smoke/bases/mistral-7b --tasks xcopa --languages de --out work/bad": (
            "none of the languages"
        ),
    }
    return found + [Case("names and options", command, command, says) for command, says in names.items()]


def of_sources() -> list[Case]:
    fetch, made = "python -m stages.download", "sources"
    path = "sources.yaml"
    wrong = {
        "a field that is unknown": (key("models/mistral-7b/revison", "main"), "did you mean 'revision'"),
        "a field that is missing": (key("models/mistral-7b/licence", KeyError), "is missing"),
        "text for a truth value": (key("models/mistral-7b/gated", "perhaps"), "true or false"),
        "a block that is unknown": (lambda old: old + b"\nmodel: {}\n", "unknown block"),
        "an entry that is a list": (key("datasets/alpaca", ["x"]), "alpaca"),
        "a block that is a list": (key("datasets/alpaca/files", []), "files"),
        "blocks without entries": (lambda old: b"models:\ndatasets:\n", "models"),
        "a list": (lambda old: b"- 1\n", "holds no keys"),
        "half a file": (cut(0.5), "sources.yaml"),
        "a sha256 that is none": (
            key("models/mistral-7b/stand_in/sha256/config.json", "12ab"),
            "64 hexadecimal digits",
        ),
        "another sha256": (key("models/mistral-7b/stand_in/sha256/config.json", "0" * 64), "sha256"),
        "a file that does not exist": (key("datasets/xcopa/files/test", "{name}/nothing-*.parquet"), "no file"),
        "a place in a pattern that is unknown": (
            key("datasets/xcopa/files/test", "{nam}/test.parquet"),
            "code or name",
        ),
        "a folder that does not exist": (
            lambda old: key("datasets/alpaca", _local(old))(old),
            "no folder",
        ),
        "both a folder and a repository": (key("datasets/alpaca/path", "somewhere"), "where it is"),
        "a key that is a path": (lambda old: old.replace(b"\n  alpaca:\n", b"\n  ../alpaca:\n", 1), "small letters"),
    }
    return [Case("sources.yaml", name, fetch, says, path, change, made) for name, (change, says) in wrong.items()]


def _local(content: bytes) -> dict:
    entry = yaml.safe_load(content)["datasets"]["alpaca"]
    return {k: v for k, v in entry.items() if k not in ("hub_id", "revision")} | {"path": "no/such/folder"}


def of_data() -> list[Case]:
    data, models = "artifacts/smoke/sources/datasets", "artifacts/smoke/sources/models"
    prepare = {
        name: f"python -m stages.prepare --dataset {name}" for name in ("alpaca", "multialpaca", "bactrian-x-11")
    }
    no_text = line(3, b'{"instruction": 7, "input": "", "output": "b"}')
    rows = [
        ("instruction rows, a cut Parquet file", prepare["alpaca"], f"{data}/alpaca/data/*.parquet", cut(0.7), "parquet"),
        (
            "instruction rows without a column",
            prepare["alpaca"],
            f"{data}/alpaca/data/*.parquet",
            parquet(lambda table: table.drop_columns(["output"])),
            "output",
        ),
        ("instruction rows, a line that is no JSON", prepare["multialpaca"], f"{data}/multialpaca/de.jsonl", line(3, b"{"), "row 3"),
        ("instruction rows, a number for a text", prepare["multialpaca"], f"{data}/multialpaca/de.jsonl", no_text, "row 3"),
        ("instruction rows that are no UTF-8", prepare["multialpaca"], f"{data}/multialpaca/ja.jsonl", line(3, b'{"a": "\xff"}'), "row 3"),
        ("instruction rows, a blank line", prepare["multialpaca"], f"{data}/multialpaca/ja.jsonl", line(3, b""), "row 3"),
        ("instruction rows, an empty file", prepare["multialpaca"], f"{data}/multialpaca/th.jsonl", lambda old: b"", "'th'"),
        ("instruction rows, a cut gzip file", prepare["bactrian-x-11"], f"{data}/bactrian-x/data/ja.json.gz", cut(0.6), "damaged or cut"),
        ("instruction rows, a page of HTML", prepare["bactrian-x-11"], f"{data}/bactrian-x/data/ar.json.gz", lambda old: b"<html>", "damaged or cut"),
        ("instruction rows, an array without end", prepare["bactrian-x-11"], f"{data}/bactrian-x/data/ar.json.gz", unzipped(cut(0.5)), "damaged or cut"),
        ("test rows, a cut Parquet file", ANSWER, f"{data}/xcopa/sw/*.parquet", cut(0.7), "parquet"),
        ("test rows, a label outside of its range", ANSWER, f"{data}/xcopa/sw/*.parquet", parquet(column("label", lambda old: [5, *old[1:]])), "label"),
        ("test rows, an empty question", ANSWER, f"{data}/xnli/ru/*.parquet", parquet(column("premise", lambda old: [" ", *old[1:]])), "premise"),
        ("test rows without a column", ANSWER, f"{data}/xquad/xquad.hi/*.parquet", parquet(lambda table: table.drop_columns(["answers"])), "answers"),
        ("test rows, an id that stands there twice", ANSWER, f"{data}/mlqa/MLQA.hi.hi/*.parquet", parquet(column("id", lambda old: [old[1], *old[1:]])), "twice"),
        ("test rows, an empty file", ANSWER, f"{data}/belebele/data/hin_Deva.jsonl", lambda old: b"", "no rows"),
        ("references of another model", JUDGE, f"{data}/alpaca_eval/alpaca_eval.json", lambda old: old.replace(b"text_davinci_003", b"gpt4_1106_preview"), "generator"),
        ("references, half a file", JUDGE, f"{data}/alpaca_eval/alpaca_eval.json", cut(0.5), "damaged or cut"),
        ("base weights, half a file", TRAIN, f"{models}/mistral-7b/model.safetensors", cut(0.5), "cut off"),
        ("base weights, none", TRAIN, f"{models}/mistral-7b/model.safetensors", lambda old: b"", "cut off"),
        ("a base's config, half a file", TRAIN, f"{models}/mistral-7b/config.json", cut(0.5), "config.json"),
        ("a base of another shape", TRAIN, f"{models}/mistral-7b/config.json", record(intermediate_size=32), "weights"),
        ("a base that is quantised already", TRAIN, f"{models}/mistral-7b/config.json", record(quantization_config={"quant_method": "gptq"}), "quantised already"),
        ("a tokeniser, half a file", ANSWER, f"{models}/mistral-7b/tokenizer.json", cut(0.5), "tokeniser"),
        ("training rows, half a file", TRAIN, "artifacts/smoke/prepared/bactrian-x-11/tokens/mistral-7b/train.arrow", cut(0.5), "train.arrow"),
        ("an adapter, half a file", ANSWER, "artifacts/smoke/adapters/experiment/adapter_model.safetensors", cut(0.5), "cut off"),
        ("an adapter of another base", ANSWER, "artifacts/smoke/adapters/experiment/adapter_config.json", record(base_model_name_or_path="org/other"), "was trained on"),
        ("an adapter's record of another cell", ANSWER, "artifacts/smoke/adapters/experiment/record.json", record(name="other"), "holds the adapter"),
        ("answers' record, an empty object", SCORE, "artifacts/smoke/answers/experiment/record.json", lambda old: b"{}", "is no record"),
        ("answers, half a file", SCORE, "artifacts/smoke/answers/experiment/xcopa-sw.jsonl.gz", cut(0.5), "damaged"),
        ("answers, a row less", SCORE, "artifacts/smoke/answers/experiment/xcopa-sw.jsonl.gz", unzipped(lambda old: old.split(b"\n", 1)[1]), "xcopa"),
        ("scores' record, a score changed by hand", COLLECT, "artifacts/smoke/scores/experiment/record.json", _better, "does not follow"),
        ("scores, a flipped byte", COLLECT, "artifacts/smoke/scores/experiment/xnli-ru.jsonl.gz", flipped, "damaged"),
        ("a judgement's record, half a file", COLLECT, "artifacts/smoke/judgements/experiment.json", cut(0.5), "JSON"),
        ("collected scores, half a file", "python -m stages.tables", "artifacts/smoke/collected/scores.csv", cut(0.5), "scores.csv"),
    ]  # fmt: skip
    makes = MAKES | {command: f"prepared/{name}" for name, command in prepare.items()}
    return [
        Case("data files", name, command, says, path, change, makes.get(command, ""))
        for name, command, path, change, says in rows
    ]


def _better(content: bytes) -> bytes:
    found = json.loads(content)
    found["scores"][0]["value"] = 0.999
    return json.dumps(found).encode()


def of_judges() -> list[Case]:
    store, named = "work/smoke/judgements/stand-in.jsonl", key("judge.annotator", "alpaca_eval_gpt4")
    stored = {
        "7": "not a judgement",
        '"x"': "not a judgement",
        "true": "not a judgement",
        "NaN": "not a judgement",
        "null": "not a judgement",
    }
    found = [
        Case("judge answers", f"a stored preference of {value}", JUDGE, says, store, judged(value), "judgements")
        for value, says in stored.items()
    ]
    found.append(
        Case("judge answers", "a stored line that is no UTF-8", JUDGE, "not a judgement", store, lambda old: b"\xff\n" + old, "judgements")
    )  # fmt: skip
    secret = {"OPENAI_API_KEY": "sk-0123456789abcdef"}
    asked = {
        "no key": ({}, None, "has no key"),
        "a key of two lines": ({"OPENAI_API_KEY": "sk-first\nsk-second"}, None, "cannot be sent"),
        "401": (secret, (401, {}, b'{"error": {"message": "no"}}'), "was refused"),
        "403": (secret, (403, {}, b'{"error": {"message": "no"}}'), "was refused"),
        "404": (secret, (404, {}, b'{"error": {"message": "no"}}'), "was refused"),
        "a redirect": (secret, (307, {"Location": "http://localhost:9/v1"}, b""), "is elsewhere"),
        "a page of HTML": (secret, (200, {"Content-Type": "text/html"}, b"<html>log in</html>"), "no usable answer"),
        "an empty object": (secret, (200, {"Content-Type": "application/json"}, b"{}"), "no usable answer"),
    }
    found += [
        Case("judge answers", name, JUDGE, says, "params.yaml", named, "judgements", environment, answers)
        for name, (environment, answers, says) in asked.items()
    ]
    return found + [
        Case("judge answers", "an unknown annotator", JUDGE, "did you mean", "params.yaml", key("judge.annotator", "alpaca_eval_gpt5"), "judgements", secret)
    ]  # fmt: skip


def cases() -> list[Case]:
    return [*of_params(), *of_options(), *of_sources(), *of_data(), *of_judges()]


class Endpoint:
    """A judge that gives every request one answer; its address while it is open."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        self.server.server_close()


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below artifacts/ and of DVC's lock file; half-written ones are there too."""
    paths = [*(folder / "artifacts").rglob("*"), folder / "dvc.lock"]
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()}


def said_by(folder: Path, case: Case) -> tuple[int, str]:
    def run(more: dict[str, str]) -> tuple[int, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
        done = subprocess.run(
            shlex.split(case.command), cwd=folder, env=base | more, capture_output=True, text=True, errors="replace", timeout=600
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    if case.answers is None:
        return run(case.environment)
    with Endpoint(*case.answers) as address:
        return run(case.environment | {"OPENAI_API_BASE": address})


def trial(folder: Path, case: Case) -> tuple[str, str]:
    """(fate, the message's first line or what is wrong with it); the folder is afterwards as before."""
    kept = {folder / "params.yaml": (folder / "params.yaml").read_bytes()}
    made = folder / "artifacts" / "smoke" / case.makes if case.makes else None
    aside = folder / "aside"
    try:
        if case.path:
            path = min(folder.glob(case.path))
            kept[path] = path.read_bytes()
            path.write_bytes(case.change(kept[path]))
            assert path.read_bytes() != kept[path], f"{case.name}: nothing was changed"
        if made and not (case.path and path.is_relative_to(made)):
            os.replace(made, aside)
        before = state(folder)
        code, said = said_by(folder, case)
        messages = re.findall(r"^(.*)\n  why: (.*)\n  do:  (.*)$", said, re.M)
        if code == 0:
            return "accepted", said[-300:]
        if "Traceback" in said or "why: unexpected" in said:
            return "unexpected", said[-1500:]
        if len(messages) != 1 or said.count("  why: ") != 1:
            return "not one message", said[-1500:]
        if case.says not in "\n".join(messages[0]):
            return "says something else", "\n".join(messages[0])
        after = state(folder)
        left = {name for name, _ in set(after.items()) ^ set(before.items())}
        if case.command.startswith("dvc"):
            # DVC takes a stage's outputs away and puts them back from its cache.
            left = {name for name in left if name in after and after[name][0] != before.get(name, (None,))[0]}
        if case.makes == "sources":
            # Files that were fetched stay for the next try; only with its record is the folder complete.
            left -= {name for name in left if "/sources/" in name and not name.endswith("record.json")}
        if left:
            return "left something", ", ".join(sorted(left)[:5])
        return "refused", messages[0][0].replace(str(folder), "RUN")
    finally:
        if aside.exists():
            shutil.rmtree(made, ignore_errors=True)
            os.replace(aside, made)
        for path, content in kept.items():
            path.write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a clone in which the smoke profile has run to its end")
    parser.add_argument("--only", default="", help="only inputs whose kind or name holds this")
    parser.add_argument(
        "--rows", type=Path, help="a CSV file that gets a row for each input, and keeps those of others"
    )
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = read(arguments.rows) if arguments.rows and arguments.rows.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = trials.copy_of(arguments.run, Path(scratch) / "run")
        for case in cases():
            if arguments.only in f"{case.kind}: {case.name}":
                fate, said = trial(folder, case)
                print(f"{case.kind}: {case.name}: {fate}: {said}", flush=True)
                known[case.kind, case.name] = {"fate": fate, "message": said.splitlines()[0]}
                if arguments.rows:
                    write(arguments.rows, known)
    fates = Counter(row["fate"] for row in known.values())
    rest = "".join(f", {count} {fate}" for fate, count in fates.items() if fate != "refused")
    print(f"{fates['refused']} of {len(known)} bad inputs refused in one message{rest}")
    return int(fates["refused"] != len(known))


def read(rows: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(rows, newline="", encoding="utf-8") as file:
        return {(row.pop("kind"), row.pop("input")): row for row in csv.DictReader(file)}


def write(rows: Path, known: dict[tuple[str, str], dict[str, str]]) -> None:
    """In the order of the list; an input that is no longer in it goes."""
    with open(rows, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["kind", "input", "fate", "message"], lineterminator="\n")
        writer.writeheader()
        for name in [(case.kind, case.name) for case in cases()]:
            if name in known:
                writer.writerow(dict(zip(("kind", "input"), name)) | known[name])


if __name__ == "__main__":
    sys.exit(main())
