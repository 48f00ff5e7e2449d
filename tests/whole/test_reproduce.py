"""The whole pipeline in a fresh copy of this tree, then everything one does with a finished run.

A second copy runs an experiment from nothing, on the other core, and then a cell of each bit width: sources, training
sets, adapters and scores must be the same bytes.
"""

import contextlib
import csv
import filecmp
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import copies
import pandas
import pytest
import yaml
from copies import ENVIRONMENT, ran, run, stage

from maple.config import params

# Fewer cells would leave claims of the paper that the grid cannot tell: both bases, all bit widths, sets and two ranks.
BASES = ("llama-2-7b-4bit", "mistral-7b-8bit", "mistral-7b-16bit")
# Of every bit width one cell; with it everything that it needs.
AGAIN = [f"answer@{base}-multialpaca-8-42" for base in BASES]


def small(given: dict[str, Any]) -> None:
    """Cells that are trained for two dozen steps and asked a handful of questions."""
    given["grid"]["bases"] = list(BASES)
    given["prepare"] |= {"rows": 192, "heldout_rows": 24}
    given["train"]["epochs"] = 2
    for options in given["evaluation"]["tasks"].values():
        options["limit"] = 8


def settings(folder: Path) -> params.Params:
    with contextlib.chdir(folder):
        return params.load("smoke")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The finished copy, its cells forked as `make reproduce` has them; one that ran an experiment and then AGAIN, stage
    by stage; and what each said.
    """
    found = [copies.tree(tmp_path_factory.mktemp(f"copy{i}"), small) for i in range(2)]
    log = found[0].with_name("repro.txt")
    with subprocess.Popen(
        ["bash", "-c", "python -m stages.cells && dvc repro"],
        cwd=found[0],
        env=ENVIRONMENT,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    ) as whole:
        said = run(found[1], "dvc", "exp", "run", "-S", "lora.r=32", "score_experiment")
        run(found[1], "dvc", "repro", *AGAIN)
    assert whole.returncode == 0, log.read_text()[-6000:]
    run(found[0], "git", "add", "-A")
    run(found[0], "git", "commit", "-qm", "finished", "--allow-empty")
    return *found, log.read_text(), said


@pytest.fixture(scope="module")
def whole(both) -> Path:
    """The first copy, for tests that leave it as it is."""
    return both[0]


@pytest.fixture
def finished(whole):
    """The first copy, put back to its finished state after the test."""
    yield whole
    run(whole, "git", "checkout", "-q", "--", ".")
    run(whole, "dvc", "checkout", "-q", "--force", "dvc.yaml")


def test_a_second_run_from_scratch_gives_the_same_bytes(both):
    """Sources, training sets, adapters, scores: all but the bills, which hold times, and the experiment of another
    rank.
    """
    whole, part, *_ = both
    made = sorted(
        p.relative_to(part) for p in (part / "artifacts").rglob("*") if p.is_file() and "bills" not in p.parts
    )
    made = [p for p in made if not {"experiment", "experiment.json"} & set(p.parts)]
    assert sum(p.suffix == ".safetensors" for p in made) == len(AGAIN) + 2 and len(made) > 120
    assert [str(p) for p in made if not filecmp.cmp(whole / p, part / p, shallow=False)] == []


def test_a_bare_clone_runs_five_stages_for_one_experiment(both):
    *_, said = both
    assert ran(said) == [
        "download",
        "prepare@bactrian-x-11",
        "train_experiment",
        "answer_experiment",
        "score_experiment",
    ]


def test_tables_and_figures_made_again_are_the_same_bytes(finished):
    stages = ["score", "judge", "collect", "tables", "figures", "compare"]
    run(finished, "dvc", "repro", "--force", "--single-item", *stages)
    assert run(finished, "git", "status", "--porcelain", "paper_tables") == ""


def test_finetuning_lowers_the_held_out_loss_of_every_cell(whole):
    cells = [cell.name for cell in settings(whole).cells]
    records = {
        cell: json.loads((whole / "artifacts/smoke/adapters" / cell / "record.json").read_text()) for cell in cells
    }
    losses = {cell: found["heldout_loss"] for cell, found in records.items()}
    assert {cell: loss for cell, loss in losses.items() if not loss["after"] < 0.95 * loss["before"]} == {}


def test_every_cell_is_scored_on_every_task_and_language(whole):
    given = settings(whole)
    wanted = {(task, code) for task, options in given.evaluation.tasks.items() for code in options.languages}
    for name in [*(cell.name for cell in given.cells), *given.grid.bases, "experiment"]:
        place = "experiment" if name == "experiment" else f"grid/{name}"
        folder = whole / "artifacts/smoke/scores" / place
        kept = {tuple(p.name.removesuffix(".jsonl.gz").split("-")) for p in folder.glob("*.jsonl.gz")}
        scored = {(s["task"], s["language"]) for s in json.loads((folder / "record.json").read_text())["scores"]}
        assert kept == wanted
        assert scored == {pair for pair in wanted if pair[0] != "alpaca_eval"}
        assert (whole / "artifacts/smoke/judgements" / f"{name}.json").exists()


def test_everything_a_person_reads_says_smoke(whole, both):
    texts = [p for p in (whole / "paper_tables/regenerated/smoke").rglob("*") if p.suffix in {".md", ".tex", ".svg"}]
    assert texts and [str(p) for p in texts if "SMOKE" not in p.read_text()] == []
    ending = both[2][-4000:]
    assert "SMOKE" in ending and "report.html" in ending and "dvc exp run -S lora.r=32" in ending


def test_a_second_run_does_nothing(whole):
    assert "Running stage" not in run(whole, "dvc", "repro")


def test_the_plan_counts_as_trained_what_no_setting_has_outdated(finished):
    def told() -> list[str]:
        return run(finished, sys.executable, "-m", "stages.plan").splitlines()

    count, bases = len(settings(finished).cells), len(BASES)
    assert told()[0].endswith(f"{count} cells, {count} trained already and skipped, 0 to train")
    path = finished / "params.yaml"
    path.write_text(re.sub(r"(\nrecipe:.*?\n  learning_rate: )\S+", r"\g<1>0.0123", path.read_text(), flags=re.S))
    first, *rest = told()
    assert first.endswith(f"0 trained already and skipped, {count} to train")
    assert any(line.startswith(f"evaluation: {count + bases} models, {bases} scored already") for line in rest)


def stale_after(whole: Path, changes: dict[str, tuple[str, str]]) -> set[str]:
    """Stages that DVC calls out of date when in each file the first text becomes the second."""
    kept = {path: (whole / path).read_text() for path in changes}
    for path, (old, new) in changes.items():
        assert old in kept[path], path
        (whole / path).write_text(kept[path].replace(old, new))
    stale = json.loads(run(whole, "dvc", "status", "--json", "dvc.yaml"))
    for path, text in kept.items():
        (whole / path).write_text(text)
    return {stage.split("@")[0] for stage in stale}


def test_words_tables_and_metrics_ask_no_model_again_and_a_metric_reaches_the_scores(whole):
    stale = stale_after(
        whole,
        {
            "maple/report/model_card.py": ("good for nothing", "of use for nothing"),
            "maple/core/progress.py": ("left", "to go"),
            "stages/train.py": ("held-out loss", "loss on held-out rows"),
            "stages/answer.py": ("answers in", "replies in"),
            "maple/results/tables.py": ("missing", "absent"),
            "maple/metrics/qa.py": ("f1", "F1"),
        },
    )
    assert {"score", "score_experiment", "tables", "report"} <= stale
    assert not {"train", "train_experiment", "answer", "answer_base", "answer_experiment"} & stale


def test_another_schedule_trains_every_cell_again(whole):
    stale = stale_after(whole, {"maple/training/loop.py": ("1 - done", "1 - done**2")})
    assert {"train", "train_experiment"} <= stale and not {"answer_base", "download", "prepare"} & stale


def test_another_normalisation_runs_the_scores_and_what_follows(whole):
    stale = stale_after(whole, {"params.yaml": ("    xcopa: bytes", "    xcopa: tokens")})
    assert {"score", "score_experiment"} <= stale and not {"train", "answer", "answer_base", "judge"} & stale


def test_another_protocol_trains_nothing_and_its_metric_alone_asks_nothing(whole):
    stale = stale_after(whole, {"params.yaml": ("  protocol: null", "  protocol: followup")})
    assert {"score", "score_experiment"} <= stale and not {"train", "answer", "answer_base", "judge"} & stale
    stale = stale_after(whole, {"params.yaml": ("  protocol: default", "  protocol: followup")})
    assert {"answer", "answer_base", "answer_experiment", "score"} <= stale and not {"prepare", "train"} & stale


def test_protocols_are_compared_beside_the_stages(whole):
    path = whole / "params.yaml"
    text = path.read_text()
    # One cell: to ask the whole grid again takes as long as the grid.
    given = yaml.safe_load(text)
    given["grid"] |= {"bases": ["llama-2-7b-4bit"], "datasets": ["alpaca"], "ranks": [8]}
    path.write_text(yaml.safe_dump(given, sort_keys=False, allow_unicode=True))
    told = run(whole, sys.executable, "-m", "stages.protocols", "--ask")
    path.write_text(text)
    assert "cells of Table 1 move" in told and "SMOKE" in told
    assert (whole / "work/smoke/protocols/protocols.csv").is_file()
    run(whole, "git", "diff", "--exit-code")


# With a single example enough for a verdict, so that every claim has one.
EVERY_CLAIM = """
import json
from maple.config import params
from maple.parts import parts
from maple.planning import plan
from maple.results import claims, collect, tables
from stages import part

smoke = params.load("smoke")
content = claims.load() | {"minimum_examples": 1}
known = plan.outdated(smoke, [model.name for model in [*smoke.cells, *smoke.bases]])
plan.outdated = lambda params, names: known  # DVC is asked once

def verdicts(results):
    return {claim.id: claim.verdict("ours") for claim in claims.check(content, results)}

whole, alone = verdicts(tables.Results(collect.load(smoke.artifacts / "collected"), smoke)), {}
for claim in content["claims"]:
    name = claim["id"]
    try:
        exact = parts.of_claim(claim, smoke, content["minimum_examples"])[0]
    except parts.MapleError:
        alone[name] = "cannot tell (smoke)"
    else:
        alone[name] = verdicts(part.results(smoke, exact, smoke.work / "claims" / name))[name]
print(json.dumps({"whole": whole, "alone": alone}))
"""


def test_every_claim_gets_from_its_part_alone_the_verdict_of_the_whole_grid(whole):
    told = json.loads(run(whole, sys.executable, "-c", EVERY_CLAIM).splitlines()[-1])
    assert told["alone"] == told["whole"] and len(set(told["whole"].values())) > 1


def test_a_claim_on_a_finished_grid_trains_and_asks_nothing(finished):
    told = run(finished, sys.executable, "-m", "stages.claim", "--claim", "mistral-above-gpt4-and-palm2")
    assert ran(told) == [] and "on ours: " in told


def test_a_run_says_whether_it_gave_the_committed_bytes(whole):
    identical = [sys.executable, "-m", "stages.identical"]
    said = run(whole, *identical)
    assert re.fullmatch(r"identical to the committed run: (\d+) of \1 outputs\n", said), said
    lock = whole / "dvc.lock"
    changed = yaml.safe_load(lock.read_text())
    changed["stages"]["figures"]["outs"][0]["md5"] = "0" * 32 + ".dir"
    lock.write_text(yaml.safe_dump(changed))
    said = run(whole, *identical)
    lock.write_text(run(whole, "git", "show", "HEAD:dvc.lock"))
    assert "differs from the committed run" in said and "paper_tables/regenerated/smoke/figures" in said
    assert "likely reason" in said
    assert run(whole, "git", "status", "--porcelain") == ""


def test_an_experiment_retrains_itself_only_and_shows_its_scores(finished):
    rank = lambda: yaml.safe_load((finished / "params.yaml").read_text())["lora"]["r"]  # noqa: E731
    other = 32 if rank() != 32 else 16
    out = run(finished, "dvc", "exp", "run", "-S", f"lora.r={other}")
    first, second, *rest = ran(out)
    assert (first, second) == ("train_experiment", "answer_experiment")
    assert (
        set(rest) <= {"score_experiment", "judge", "collect", "tables", "figures", "compare", "report"}
        and "tables" in rest
    )
    assert "xquad" in run(finished, "dvc", "metrics", "diff", "--all")
    assert "xquad" in run(finished, "dvc", "exp", "show", "--csv", "--no-pager")
    header = stage(finished, "experiments").splitlines()[0].split()
    assert header[:2] == ["experiment", "average"] and header[-1] == "lora.r" and len(header) < 20
    assert rank() == other
    table = (finished / "paper_tables/regenerated/smoke/tables/table1.md").read_text()
    assert "experiment" in table


def test_the_exported_table_has_the_scores_of_the_records(whole, tmp_path):
    stage(whole, "export", "--format", "parquet", "--out", str(tmp_path))
    frame = pandas.read_parquet(tmp_path / "examples.parquet")
    means = frame.groupby(["name", "task", "language", "metric"]).score.mean()
    records = [json.loads(path.read_text()) for path in (whole / "artifacts/smoke/scores").rglob("record.json")]
    wanted = {
        (found["name"], score["task"], score["language"], score["metric"]): score["value"]
        for found in records
        for score in found["scores"]
    }
    assert len(records) == len(settings(whole).cells) + len(BASES) + 1
    assert {key: means[key] for key in wanted} == pytest.approx(wanted)


def test_a_queue_of_ranks_works(finished):
    run(finished, "dvc", "exp", "run", "--queue", "-S", "lora.r=4,16", "train_experiment")
    run(finished, "dvc", "queue", "start", "-j", "1")
    for _ in range(120):
        status = run(finished, "dvc", "queue", "status")
        if "Success" in status and "Running" not in status and "Queued" not in status:
            break
        time.sleep(1)
    assert status.count("Success") == 2, status


def test_a_pulled_run_trains_nothing(finished, tmp_path):
    run(finished, "dvc", "remote", "add", "-f", "-d", "shared", str(tmp_path / "remote"))
    run(finished, "dvc", "push", "-q")
    run(finished, "dvc", "push", "-q", "--run-cache")
    run(finished, "git", "add", "-A")
    run(finished, "git", "commit", "-qm", "pushed", "--allow-empty")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(finished), str(clone))
    run(clone, "dvc", "pull", "-q", "--run-cache", "dvc.yaml")
    assert "Running stage" not in run(clone, "dvc", "repro")


def test_ctrl_c_during_training_is_continued(finished):
    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "stages.train", "--name", "experiment"],
            cwd=finished, env=ENVIRONMENT | {"PYTHONPATH": "."}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    log = finished / "work/smoke/logs/train-experiment.log"
    log.unlink(missing_ok=True)
    process = start()
    while "step 2 " not in (log.read_text() if log.exists() else ""):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from the checkpoint" in out
    bill = finished / "artifacts/smoke/bills/train/experiment.json"
    again = start()
    again.communicate(timeout=120)
    assert again.returncode == 0 and json.loads(bill.read_text())["resumed_at_step"] >= 2


def test_tables_are_plain_files_that_diff_can_hold_against_the_published_ones(whole):
    for table in ("table1.csv", "table2.csv"):
        ours = list(csv.reader(open(whole / "paper_tables/regenerated/smoke/tables" / table)))
        theirs = list(csv.reader(open(whole / "paper_tables/published/tables" / table)))
        assert ours[0][: len(theirs[0])] == theirs[0]
