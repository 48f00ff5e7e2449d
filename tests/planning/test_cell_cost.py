"""The plan: parameter counts as published, memory as measured, and a whole grid on one screen in a second."""

import csv
import dataclasses
import gc
import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maple.config import bills, catalogue, params
from maple.config.params import TARGETS
from maple.models import loading, shapes
from maple.planning import cell_cost, evaluation_cost, plan
from maple.training import batches, loop, output_head, row_attention

# Percent of trainable parameters as PEFT prints it, by adapted modules and rank.
RANKS = (8, 16, 32, 64, 128)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PERCENT = {
    ("llama-2-7b", ("q_proj", "v_proj")): (0.0622, 0.1243, 0.2484, 0.4955, 0.9861),
    ("llama-2-7b", ATTENTION): (0.1243, 0.2484, 0.4955, 0.9861, 1.9529),
    ("llama-2-7b", TARGETS): (0.2958, 0.5898, 1.1726, 2.3181, 4.5311),
    ("mistral-7b", ("q_proj", "v_proj")): (0.0470, 0.0940, 0.1879, 0.3751, 0.7473),
    ("mistral-7b", ATTENTION): (0.0940, 0.1879, 0.3751, 0.7473, 1.4835),
    ("mistral-7b", TARGETS): (0.2888, 0.5758, 1.1451, 2.2643, 4.4283),
}
# GiB: bfloat16, LLM.int8, NF4 with double quantisation, NF4 without.
WEIGHTS = {"llama-2-7b": (12.55, 6.52, 3.60, 3.88), "mistral-7b": (13.49, 6.99, 3.84, 4.15)}
RECIPE = params.load("smoke").recipe


def shape(name: str) -> shapes.Shape:
    return shapes.Shape(**catalogue.models()[name].shape)


@pytest.mark.parametrize("name, targets", PERCENT)
def test_trainable_percentages_are_those_that_peft_prints(name, targets):
    recipe = dataclasses.replace(RECIPE, lora=dataclasses.replace(RECIPE.lora, targets=list(targets)))
    found = tuple(round(shape(name).trainable_percent(recipe, rank), 4) for rank in RANKS)
    assert found == PERCENT[name, targets]


@pytest.mark.parametrize("name, total", [("llama-2-7b", 6_738_415_616), ("mistral-7b", 7_241_732_096)])
def test_parameters_equal_those_of_the_model_without_weights_and_of_peft_on_it(name, total):
    import transformers

    s = shape(name)
    sizes = {
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "intermediate_size": s.intermediate,
        "vocab_size": s.vocabulary,
    }
    config = transformers.LlamaConfig if name.startswith("llama") else transformers.MistralConfig
    with torch.device("meta"):
        base = transformers.AutoModelForCausalLM.from_config(config(**sizes))
        assert sum(p.numel() for p in base.parameters()) == s.parameters == total
        lora = loading.make_trainable(base, RECIPE, 8)
    trained, everything = lora.get_nb_trainable_parameters()
    assert trained == s.trainable_parameters(RECIPE, 8)
    assert 100 * trained / everything == pytest.approx(s.trainable_percent(RECIPE, 8))


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_memory_of_both_models_at_every_width(name):
    found = [
        cell_cost.weight_bytes(shape(name), bits, double) / 2**30
        for bits, double in ((16, True), (8, True), (4, True), (4, False))
    ]
    assert found == pytest.approx(WEIGHTS[name], abs=0.01)


class Allocated(TorchDispatchMode):
    """Bytes of live tensors while it is on, and their peak; scratch memory inside one operation is not seen."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()
        gc.collect()
        for thing in gc.get_objects():
            if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
                self._note(thing)
        self.before = self.live

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        for thing in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(thing, torch.Tensor):
                self._note(thing)
        return out

    def _note(self, tensor):
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self._known.discard(key)
        self.live -= size


# hidden, layers, heads, intermediate, vocabulary, tokens a pass, of the longest row, rows (enough to fill a pass)
SIZES = {
    "tiny": (64, 2, 4, 192, 512, 1024, 256, 8),
    "small": (256, 4, 4, 704, 4096, 1024, 256, 8),
    "long": (256, 4, 4, 704, 4096, 1280, 1024, 4),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path, checkpointing", [("fused", False), ("fused", True), ("stock", False)])
@pytest.mark.parametrize("bits, rank", [(16, 8), (8, 8), (4, 64)])
def test_estimated_memory_is_within_15_percent_of_a_measured_step(tmp_path, size, path, checkpointing, bits, rank):
    recipe = dataclasses.replace(RECIPE, path=path, gradient_checkpointing=checkpointing)
    estimated, measured = memories(tmp_path, size, recipe, bits, rank)
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("size", ["small", "long"])
@pytest.mark.parametrize("method", ["dora", "ia3", "prompt", "prefix", "full"])
def test_estimated_memory_of_other_methods_is_within_a_quarter_of_a_measured_step(tmp_path, size, method):
    estimated, measured = memories(tmp_path, size, dataclasses.replace(RECIPE, method=method).fitted(), 16, 8)
    assert estimated == pytest.approx(measured, rel=0.25)


def memories(tmp_path, size, recipe, bits, rank):
    """(what the plan expects, what two steps had at their peak), bytes."""
    import transformers

    hidden, layers, heads, intermediate, vocabulary, tokens, longest, count = SIZES[size]
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tiny.save_rows(tmp_path / "train.arrow", count=count, longest=longest)
    rows = batches.Rows(tmp_path / "train.arrow")
    recipe = dataclasses.replace(recipe, micro_batch_tokens=tokens, batch_rows=count, max_steps=2, epochs=2)
    lora = loading.make_trainable(
        loading.load_base(tmp_path / "model", bits, recipe.quantisation, torch.device("cpu")), recipe, rank
    )
    with Allocated() as allocated:
        loop.finetune(lora, rows, recipe, 42, {}, tmp_path / "state" / "state.pt")
    own = sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in lora.state_dict().values()}.values())
    measured = allocated.peak - allocated.before + own
    shape = shapes.Shape.of_config(config.to_dict())
    estimated = cell_cost.memory(shape, bits, rank, recipe, cell_cost.RowCounts.of(rows), on_gpu=False).peak
    return estimated, measured


def test_the_estimate_counts_pieces_as_large_as_training_makes_them():
    assert cell_cost.HEAD_LOGITS == output_head.HEAD_LOGITS and cell_cost.QUERIES == row_attention.QUERIES


def test_the_planned_steps_and_tokens_are_those_that_training_takes():
    for rows, epochs, batch, limit in [(10, 1, 4, None), (10, 2, 4, None), (10, 1.5, 4, None), (100, 1, 16, 3)]:
        recipe = dataclasses.replace(RECIPE, epochs=epochs, batch_rows=batch, max_steps=limit)
        taken = batches.steps(rows, batch, epochs, limit, seed=0)
        assert cell_cost.steps(rows, recipe) == len(taken)
        assert cell_cost.tokens(cell_cost.RowCounts(rows, 7.0, 0.5, True), recipe) == 7 * sum(map(len, taken))


SPEED = {"device": "H200", "shape": "mistral-7b", "bits": "4", "rank": "8", "path": "fused", "checkpointing": "no"}
# The same row with one column changed, of every column that must agree.
OTHERS = [
    SPEED | changed
    for changed in (
        {"device": "A100-80GB"},
        {"shape": "llama-2-7b"},
        {"bits": "8"},
        {"path": "stock"},
        {"checkpointing": "yes"},
    )
]


@pytest.fixture
def speeds(tmp_path, monkeypatch):
    """Writes benchmarks/throughput.csv with these rows, under the header that it has, in its place."""
    header = (cell_cost.TABLES / "throughput.csv").read_text().splitlines()[0].split(",")
    shutil.copy(cell_cost.TABLES / "devices.csv", tmp_path)
    monkeypatch.setattr(cell_cost, "TABLES", tmp_path)

    def write(*rows):
        with open(tmp_path / "throughput.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows({"work": "train"} | row for row in rows)

    return write


ROWS = cell_cost.RowCounts(100, 200.0, 0.5, assumed=False)


def device(name, factor=1):
    """A card of benchmarks/devices.csv, or one with so many times the H100's peaks."""
    (h100,) = [one for one in cell_cost.devices() if one.name == "H100-80GB"]
    peaks = {"bf16_tflops": factor * h100.bf16_tflops, "fp32_tflops": factor * h100.fp32_tflops}
    return next((one for one in cell_cost.devices() if one.name == name), dataclasses.replace(h100, name=name, **peaks))


def planned(row, rank=8, of=None):
    recipe = dataclasses.replace(RECIPE, path=row["path"], gradient_checkpointing=row["checkpointing"] == "yes")
    card = of or device(row["device"])
    return cell_cost.speed(card, row["shape"], shape(row["shape"]), int(row["bits"]), rank, recipe, ROWS)


@pytest.mark.parametrize("row", [SPEED, *OTHERS])
def test_a_measured_speed_is_of_the_same_device_model_width_path_and_checkpointing(speeds, row):
    rows = [SPEED, *OTHERS]
    speeds(*(other | {"tokens_per_second": 1000.5 + number} for number, other in enumerate(rows)))
    assert planned(row) == cell_cost.Speed(1000.5 + rows.index(row), "measured")
    speeds(*(other | {"tokens_per_second": 1} for other in rows if other != row))
    assert planned(row).origin in ("scaled", "assumed")


def test_a_measured_speed_is_of_the_nearest_rank_by_ratio(speeds):
    speeds(*(SPEED | {"rank": rank, "tokens_per_second": 10 * rank} for rank in (8, 128)))
    assert [planned(SPEED, rank).tokens_per_second for rank in (4, 8, 16, 64, 128)] == [80, 80, 80, 1280, 1280]


def test_a_speed_of_another_card_is_scaled_by_the_peaks_and_says_so(speeds):
    speeds(SPEED | {"device": "H100-80GB", "tokens_per_second": 1000})
    assert planned(SPEED, of=device("H100-80GB")) == cell_cost.Speed(1000, "measured")
    twice = planned(SPEED, of=device("a card of twice the peaks", factor=2))
    assert twice == cell_cost.Speed(pytest.approx(2000), "scaled")


def test_a_speed_with_checkpointing_is_scaled_by_the_pass_that_it_makes_more(speeds):
    """Frozen matrices cost 4 FLOPs a weight without and 6 with checkpointing, nearly all of a token's work."""
    speeds(SPEED | {"device": "H100-80GB", "checkpointing": "no", "tokens_per_second": 1200})
    found = planned(SPEED | {"checkpointing": "yes"}, of=device("H100-80GB"))
    assert found == cell_cost.Speed(pytest.approx(800, rel=0.03), "scaled")


def test_without_a_row_of_the_width_the_speed_is_an_assumed_share_of_the_peak(speeds):
    """A third of the peak rate at 4 bits, at four FLOPs per token for each of the seven billion frozen weights."""
    speeds()
    recipe = dataclasses.replace(RECIPE, path="fused", gradient_checkpointing=False)
    card = cell_cost.Device("one", memory_gb=48, bf16_tflops=100, fp32_tflops=50, price_per_hour=1)
    found = cell_cost.speed(card, "mistral-7b", shape("mistral-7b"), 4, 8, recipe, ROWS)
    assert found == cell_cost.Speed(pytest.approx(100e12 / 3 / 4 / 7e9, rel=0.05), "assumed")


def test_hours_money_and_their_range_follow_by_hand(speeds, tmp_path, monkeypatch):
    """English rows fill .254 of 768 tokens, so 48,000 of them have 9.363 million. At 5,109 a second they take 1,833
    s, and 180 s to start: 0.5591 h, 1.677 at 3 an hour.
    """
    paper = params.load("paper")
    monkeypatch.setattr(params.Params, "artifacts", tmp_path / "none")
    monkeypatch.setattr(bills, "KEPT", tmp_path)
    speeds(
        {
            "device": "H100-80GB",
            "shape": "mistral-7b",
            "bits": 16,
            "rank": 8,
            "path": "fused",
            "checkpointing": "yes",
            "tokens_per_second": 5109,
        }
    )
    card = device("H100-80GB")
    cell = next(cell for cell in paper.cells if cell.name == "mistral-7b-16bit.alpaca.r8.s42")
    recipe = dataclasses.replace(paper.recipe, path="fused", gradient_checkpointing=True)
    line = plan.line(paper, cell, recipe, cell.name, card)
    assert line.tokens == pytest.approx(9.363e6, rel=0.001)
    assert line.hours == pytest.approx(line.tokens / 5109 / 3600 + 180 / 3600) == pytest.approx(0.5591, rel=0.001)
    assert line.hours * card.price_per_hour == pytest.approx(1.677, rel=0.001)
    assert line.speed == cell_cost.Speed(5109, "measured") and line.speed.range == (0.75, 1.25)


def test_evaluation_takes_the_slowest_measured_pace_of_the_card_and_scales_what_another_measured(speeds):
    """Unpacked once, 4 bits read as 16 do; what no card measured at 8 bits is an assumed share of the peak."""
    mistral, llama = shape("mistral-7b"), shape("llama-2-7b")
    row = {"device": "H100-80GB", "shape": "mistral-7b", "bits": 16, "rank": 8, "path": "shared", "checkpointing": "no"}
    found = [("read", 30000), ("read", 20000), ("write", 9000), ("write", 6000)]
    speeds(*(row | {"work": work, "tokens_per_second": rate, "settings": rate} for work, rate in found))
    evaluation, card = params.load("paper").evaluation, device("H100-80GB")
    for bits in (16, 4):
        pace = evaluation_cost.pace(evaluation, mistral, bits, card)
        assert pace.reading == cell_cost.Speed(20000, "measured") and pace.writing == cell_cost.Speed(6000, "measured")
    assert pace.hours(36e6, 21.6e6) == pytest.approx(0.5 + 1) and pace.range(36e6, 21.6e6) == pytest.approx(
        (1.125, 1.875)
    )
    twice = evaluation_cost.pace(evaluation, mistral, 16, device("a card of twice the peaks", factor=2))
    assert twice.reading == cell_cost.Speed(pytest.approx(40000), "scaled")
    scaled = evaluation_cost.pace(evaluation, llama, 16, card).reading
    ratio = mistral.forward_flops / llama.forward_flops
    assert scaled == cell_cost.Speed(pytest.approx(20000 * ratio), "scaled")
    assumed = evaluation_cost.pace(evaluation, mistral, 8, card).reading
    rate = cell_cost.ASSUMED_MFU[8] * card.bf16_tflops * 1e12 / mistral.forward_flops
    assert assumed == cell_cost.Speed(pytest.approx(rate), "assumed")


def test_the_start_counts_once_for_a_base_and_a_swap_for_each_other_model(tmp_path, monkeypatch):
    """126 models on 6 bases: 6 starts of 180 s and 120 swaps of 10 s are 38 minutes. What is done has loaded nothing."""
    paper = params.load("paper")
    monkeypatch.setattr(params.Params, "artifacts", tmp_path)
    monkeypatch.setattr(bills, "KEPT", tmp_path)
    card = device("H100-80GB")
    found = plan.scorings(paper, card)
    assert sum(line.start_hours for line in found) * 60 == pytest.approx(38)
    first = found[0]
    read, written = evaluation_cost.tokens(paper.evaluation, paper.cells[0].base.model)[1:]
    assert first.hours == pytest.approx(180 / 3600 + first.pace.hours(read, written))
    folder = paper.folder("answers", first.name)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    again = plan.scorings(paper, card)
    assert again[0].done and again[1].start_hours == pytest.approx(180 / 3600)
    # Virtual tokens are no pair of matrices beside the base's: every model has a base of its own.
    prompts = dataclasses.replace(paper, recipe=dataclasses.replace(paper.recipe, method="prompt", path="plain"))
    assert all(line.start_hours == pytest.approx(180 / 3600) for line in plan.scorings(prompts, card))


def test_a_plan_reads_each_table_of_benchmarks_once(monkeypatch):
    opened = []

    def watched(path, *more, **options):
        opened.append(Path(path).name)
        return open(path, *more, **options)

    monkeypatch.setattr(cell_cost, "open", watched, raising=False)
    cell_cost._table_at.cache_clear()
    paper = params.load("paper")
    plan.lines(paper, device("H100-80GB")), plan.scorings(paper, device("H100-80GB"))
    assert sorted(opened) == ["devices.csv", "throughput.csv"]


def test_the_smoke_profile_plans_with_the_shapes_of_its_shipped_bases():
    smoke = params.load("smoke")
    for key, source in catalogue.models().items():
        config = json.loads(Path(source.stand_in.folder, "config.json").read_text(encoding="utf-8"))
        assert plan.shape_of(smoke, key) == shapes.Shape.of_config(config)
        assert plan.shape_of(params.load("paper"), key) == shapes.Shape(**source.shape)


def test_a_finished_cell_is_planned_as_done_and_its_speed_is_used(tmp_path, monkeypatch):
    smoke = params.load("smoke")
    monkeypatch.setattr(params.Params, "artifacts", tmp_path)
    monkeypatch.setattr(bills, "KEPT", tmp_path)
    cell = smoke.cells[0]
    folder = tmp_path / "adapters" / cell.name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    bills.write(smoke, "train", cell.name, {"tokens_per_second": 1000.0})
    for kept in (False, True):
        lines = plan.lines(smoke, plan.device_of(smoke)[0])
        assert [line.cell for line in lines if line.done] == [cell]
        assert lines[0].speed.origin == "this grid"
        assert lines[0].hours * 3600 == pytest.approx(lines[0].tokens / 1000 + plan.START_SECONDS["smoke"])
        if not kept:  # as in a clone that only pulled
            bills.keep(smoke)
            shutil.rmtree(tmp_path / "bills")


def test_what_dvc_would_run_again_counts_as_not_done(tmp_path, monkeypatch):
    paper = params.load("paper")
    monkeypatch.setattr(params.Params, "artifacts", tmp_path)
    cells = paper.cells[:3]
    for cell in cells[:2]:
        for folder in (tmp_path / "adapters" / cell.name, paper.folder("answers", cell.name)):
            folder.mkdir(parents=True)
            (folder / "record.json").write_text("{}")
    names = [cell.name for cell in cells]
    stages = [plan.stages_of(paper, name) for name in names]
    deleted = {"changed deps": {"artifacts/paper/sources/models": "deleted"}}
    changed = {"changed deps": {"params.yaml": {"recipe": "modified"}}}
    status = {
        "download": [{"changed deps": {"sources.yaml": "modified"}}],
        "prepare@alpaca": [deleted],  # freed: fetched again, and the stage skipped
        "collect": [changed],
        stages[0][0]: [changed],
        stages[1][0]: [deleted],
        stages[1][1]: [deleted, "changed command"],
        stages[2][0]: [changed],  # never trained
    }
    answer = json.dumps({f"profiles/paper/dvc.yaml:{stage}": found for stage, found in status.items()})
    monkeypatch.setattr(plan.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, answer))
    found = plan.outdated(paper, names)
    assert found == plan.Outdated({stages[0][0], stages[1][1]}, {"download"})
    device = plan.device_of(paper)[0]
    trained = [line.done for line in plan.lines(paper, device, found.again)[:3]]
    scored = [line.done for line in plan.scorings(paper, device, found.again)[:3]]
    assert trained == [False, True, False] and scored == [False, False, False]
    monkeypatch.setattr(plan.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, ""))
    assert plan.outdated(paper, names) is None


def test_evaluation_is_planned_for_every_cell_and_base_and_measured_hours_replace_assumed_ones(tmp_path, monkeypatch):
    paper = params.load("paper")
    monkeypatch.setattr(params.Params, "artifacts", tmp_path)
    monkeypatch.setattr(bills, "KEPT", tmp_path)
    device = plan.device_of(paper)[0]
    before = plan.scorings(paper, device)
    assert len(before) == len(paper.cells) + len(paper.bases) and not any(line.measured or line.done for line in before)
    wide, narrow = (next(line.hours for line in before if f"-{bits}bit" in line.name) for bits in (16, 8))
    assert 0.1 < wide < narrow < 24
    folder = paper.folder("answers", paper.cells[0].name)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    base = paper.cells[0].base.name
    for reused, measured in ((3, False), (0, True)):
        bills.write(paper, "answer", paper.cells[0].name, {"seconds": 7200, "tasks": {"xnli": {"reused": reused}}})
        assert any(line.measured for line in plan.scorings(paper, device)) == measured
    for line in plan.scorings(paper, device):
        assert line.done == (line.name == paper.cells[0].name)
        assert line.measured == line.name.startswith(base)
        assert not line.measured or line.hours == 2


def test_the_paper_plan_shows_120_cells_on_one_screen_in_about_a_second_without_torch():
    code = (
        "import sys, runpy; sys.argv = ['plan', '--profile', 'paper'];"
        "runpy.run_module('stages.plan', run_name='__main__'); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "120 cells" in done.stdout
    assert len(done.stdout.splitlines()) < 50
    assert "evaluation: 126 models, 0 scored already" in done.stdout
    for assumed in (
        "million tokens read",
        "tokens a second at 4 bits",
        "prices are assumed",
        "assumed: tokens of a training row",
        "scaled: the nearest row",
    ):
        assert assumed in done.stdout


def test_a_training_stage_says_which_cell_of_the_grid_it_is_and_how_long_the_rest_takes(tmp_path):
    from maple.planning import place as places

    names, recipe, spent = ["a", "b", "c", "d"], {"epochs": 1}, {}
    place = places.place_in_grid(tmp_path, {}, names, "a", recipe)
    assert str(place) == "cell 1 of 4" and place.left(0) == ""
    for name, its in (("a", recipe), ("b", recipe), ("c", {"epochs": 2})):
        (tmp_path / name).mkdir()
        spent["train", name] = {"seconds": 60}
        (tmp_path / name / "record.json").write_text(json.dumps({"recipe": its}))
    # Cell a itself is made again, and c is another recipe's.
    place = places.place_in_grid(tmp_path, spent, names, "a", recipe)
    assert str(place) == "cell 2 of 4" and place.left(60) == "2 min 00 s left in the grid"
    assert places.place_in_grid(tmp_path, spent, names, "experiment", recipe) is None
