"""How often the claims' verdicts are right: planted truth, drawn many times at full size, judged by the real code.

    python -m benchmarks.calibrate                       # 200 draws of every world into benchmarks/calibration.csv
    python -m benchmarks.calibrate --show                # the table of docs/CLAIMS.md, from that file
    python -m benchmarks.calibrate --draws 20 --print    # as CSV, nothing written
    python -m benchmarks.calibrate --seed-sd 0.005 --seeds 3   # beside it in the file: what seeds do

A world is a grid of the paper profile (120 cells and their bases, all tasks, languages and examples) whose true scores
are known. Each effect is switched on in one world, at the margin and at twice the margin of the parameters, and off in
`off`. Scores of examples are drawn from the true means with the spread of maple/results/power.py, and claims.check judges
them as it judges a finished run. A verdict is wrong when what it says of the true scores is false; at exactly the margin
"holds" and "does not hold" are both false of an equivalence.
"""

import argparse
import csv
import dataclasses
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from maple import tasks
from maple.config import params as parameters
from maple.config.cell import Base, Cell
from maple.config.params import Params
from maple.core.progress import Progress
from maple.results import claims, power, published
from maple.results.collect import Collected, Examples, Score
from maple.results.power import Spread
from maple.results.quantities import Draws
from maple.results.tables import Results
from maple.upstream import languages

PATH = Path(__file__).with_name("calibration.csv")
DRAWS, SEED = 200, 42
# Resamples behind a standard error: fewer than in the parameters, for speed. Their own noise makes errors a little likelier.
SAMPLES = 200
# In place of a claim: draws in which any claim of the world got a wrong verdict.
ANY = "any of these"
LEVELS = {"absent": 0, "margin": 1, "twice": 2}


@dataclass(frozen=True)
class World:
    """True scores: a task's level, and by `shift` what a model has above it on a language, for an effect of a size."""

    name: str
    planted: str
    claims: tuple[str, ...]
    shift: Callable[[Cell | Base, str, str, float], float]
    level: Callable[[str], float]


def _transfer(model: Cell | Base, task: str, language: str, effect: float) -> float:
    # Steps of one effect: what a claim compares differs by one.
    step = {"multialpaca": 1, "bactrian-x-22": 1, "bactrian-x-11": 2}
    return effect * step.get(model.dataset, 0) if isinstance(model, Cell) else 0


def _more_languages(model: Cell | Base, task: str, language: str, effect: float) -> float:
    return effect if isinstance(model, Cell) and model.dataset == "bactrian-x-22" else 0


def _base(model: Cell | Base, task: str, language: str, effect: float) -> float:
    """Mistral is above Llama and GPT-4; bases lose in high-resource languages and win in others."""
    if isinstance(model, Base):
        return _base(Cell(model, "", 0, 0), task, language, effect) + effect * (
            1 if _resource(language) == "high" else -1
        )
    return effect * (model.base.model == "mistral-7b") + (0.01 if task == "xquad" and effect else 0)


def _capacity(model: Cell | Base, task: str, language: str, effect: float) -> float:
    if isinstance(model, Base):
        return 0
    rank, bits = np.log2(model.rank / 32) / 4, np.log2(model.base.bits / 8) / 2
    return effect * float(rank + bits)


def _resource(language: str) -> str:
    return languages.table()[language].resource


@cache
def _finetuned(task: str) -> float:
    """The mean of what the paper prints for its finetuned models."""
    table, column = ("table2", "winrate") if task == "alpaca_eval" else ("table1", task)
    layout, cells = published.layout(table), published.cells()
    found = [cells[table, row.key, column].number for row in layout.rows if not row.baseline]
    return float(sum(found) / len(found) / layout.scale)


def _gpt4(task: str) -> float:
    """GPT-4's printed score, against which claims are made; the paper has none of it for AlpacaEval."""
    return _finetuned(task) if task == "alpaca_eval" else float(published.cells()["table1", "gpt-4", task].number)


WORLDS = {
    world.name: world
    for world in (
        World(
            "transfer",
            "training sets differ: Alpaca below MultiAlpaca and Bactrian-X-22, Bactrian-X-11 above",
            (
                "crosslingual-transfer",
                "crosslingual-transfer-by-task",
                "crosslingual-transfer-whole-grid",
                "translated-like-generated",
                "translated-like-generated-by-task",
            ),
            _transfer,
            _finetuned,
        ),
        World(
            "more-languages",
            "Bactrian-X-22 above all other sets",
            ("more-languages-not-better", "groups-alike"),
            _more_languages,
            _finetuned,
        ),
        World(
            "base",
            "Mistral above Llama and GPT-4; finetuning lowers high-resource languages and lifts the others",
            (
                "base-model-outweighs",
                "mistral-above-gpt4-and-palm2",
                "gap-sometimes-bridged",
                "english-can-take-a-hit",
                "finetuning-lifts-low-resource",
                "finetuning-lowers-high-resource",
            ),
            _base,
            _gpt4,
        ),
        World(
            "capacity",
            "scores rise with rank and bits",
            (
                "rank-keeps-english",
                "quantisation-keeps-english",
                "capacity-keeps-multilingual",
                "rank-helps-low-resource",
                "quantisation-helps-low-resource",
            ),
            _capacity,
            _finetuned,
        ),
    )
}


# -- True scores and their draws -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn(Collected):
    """Collected scores that never were on disk."""

    drawn: dict[tuple[str, str], Examples] = dataclasses.field(default_factory=dict)

    def examples(self, task: str, language: str) -> Examples:
        return self.drawn[task, language]


@dataclass(frozen=True)
class Model:
    """One model of the grid. `seed` is 0 for a base."""

    name: str
    coordinates: Cell | Base

    @property
    def base(self) -> Base:
        return self.coordinates.base if isinstance(self.coordinates, Cell) else self.coordinates


def models_of(params: Params) -> list[Model]:
    return [Model(item.name, item) for item in [*params.cells, *params.bases]]


def groups_of(params: Params) -> list[tuple[str, str]]:
    """(task, language) of the profile."""
    return [(task, code) for task, options in params.evaluation.tasks.items() for code in options.languages]


def size_of(params: Params, task: str) -> int:
    return min(tasks.get(task).size, params.evaluation.tasks[task].limit or tasks.get(task).size)


def truth(params: Params, world: World, effect: float) -> dict[tuple[str, str], np.ndarray]:
    """(task, language) -> the true mean of every model."""
    models = models_of(params)
    return {
        (task, code): np.array([world.level(task) + world.shift(m.coordinates, task, code, effect) for m in models])
        for task, code in groups_of(params)
    }


class Noise:
    """Standard normal noise of every example, correlated between models and languages as `Spread` says.

    A score depends on its noise monotonically, so scores are about as correlated as the noise. Variances become
    correlations of the noise by the relation for a right or wrong at even odds (Sheppard 1899).
    """

    def __init__(self, params: Params, spread: dict[str, Spread]):
        self._params, self._spread, self._models = params, spread, models_of(params)
        self._owners = {
            "item": [m.base.model for m in self._models],
            "bits": [m.base.name for m in self._models],
            "dataset": [f"{m.base.model}.{getattr(m.coordinates, 'dataset', '')}" for m in self._models],
            "cell": [m.name for m in self._models],
        }

    def of(self, task: str, language: str, draw: int) -> np.ndarray:
        """Shape (models, examples); for ROUGE-L its distribution function."""
        spread, n = self._spread[task], size_of(self._params, task)
        own, shared = _rng(draw, task, language), _rng(draw, task)
        noise = np.zeros((len(self._models), n), dtype=np.float32)
        for kind, (variance, common) in _latent(spread).items():
            names = list(dict.fromkeys(self._owners[kind]))
            part = np.float32((variance * (1 - common)) ** 0.5) * own.standard_normal((len(names), n), dtype=np.float32)
            if common:
                part += np.float32((variance * common) ** 0.5) * shared.standard_normal(part.shape, dtype=np.float32)
            noise += part[[names.index(owner) for owner in self._owners[kind]]]
        return _cumulative(noise) if task == "xlsum" else noise


def _latent(spread: Spread) -> dict[str, tuple[float, float]]:
    """What the noise is made of: its part of the variance 1, and how much of that the translations of an item share."""
    total = spread.item + spread.bits + spread.dataset + spread.cell
    item = spread.item / total
    # What two noises have in common so that the scores have it: of right and wrong at even odds, asin(r) / (pi / 2).
    apart, own = (
        _sine(x) for x in (item * spread.item_languages, item * spread.item_languages + (1 - item) * spread.languages)
    )
    common = (own - apart) / (1 - _sine(item))
    parts, before, sum_so_far = {}, 0.0, 0.0
    for kind in ("item", "bits", "dataset", "cell"):
        sum_so_far += getattr(spread, kind) / total
        parts[kind] = (_sine(sum_so_far) - before, apart / _sine(item) if kind == "item" else common)
        before = _sine(sum_so_far)
    return parts


def _sine(correlation: float) -> float:
    return float(np.sin(np.pi / 2 * correlation))


def scores_of(task: str, noise: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Scores with exactly these means, shape (models, examples): right or wrong; F1 of 0, 0.5 or 1; ROUGE-L evenly from 0
    to twice the mean, from noise that is even already.
    """
    if task == "xlsum":
        return (2 * means[:, None]).astype(np.float32) * noise
    if task in ("xquad", "mlqa"):
        # A fifth of the answers is half right.
        full, half = (_quantiles(means + step)[:, None] for step in (-0.1, 0.1))
        return np.float32(0.5) * ((noise < full).astype(np.float32) + (noise < half))
    return (noise < _quantiles(means)[:, None]).astype(np.float32)


def _quantiles(means: np.ndarray) -> np.ndarray:
    distinct, places = np.unique(means, return_inverse=True)
    return np.array([NormalDist().inv_cdf(p) for p in distinct], dtype=np.float32)[places]


def _cumulative(noise: np.ndarray) -> np.ndarray:
    """The normal distribution function, to 1e-4 (by linear interpolation in a table)."""
    grid = np.linspace(-5, 5, 1001)
    return np.interp(noise, grid, [NormalDist().cdf(x) for x in grid]).astype(np.float32)


def collected(params: Params, drawn: dict[tuple[str, str], np.ndarray]) -> Drawn:
    """What `collect` would have read of these scores. Languages of parallel tasks have the same ids."""
    models, scores, examples = models_of(params), [], {}
    names = [model.name for model in models]
    for (task, code), values in drawn.items():
        means = values.mean(axis=1, dtype=np.float64).tolist()
        for model, mean in zip(models, means):
            scores.append(_score(model, task, code, mean, values.shape[1]))
        examples[task, code] = Examples(names, _ids(task, code, values.shape[1]), values)
    return Drawn(Path(), params.profile, names, [], {name: {} for name in names}, scores, examples)


def _score(model: Model, task: str, code: str, value: float, n: int) -> Score:
    cell = model.coordinates if isinstance(model.coordinates, Cell) else None
    where = (cell.dataset, cell.rank, cell.seed) if cell else (None, None, None)
    kind = "cell" if cell else "base"
    return Score(
        model.name, kind, model.base.model, model.base.bits, *where, task, code, "score", True, value, n, None, ""
    )


@cache
def _ids(task: str, code: str, n: int) -> list[str]:
    # Samples of MLQA and articles of XLSum are a language's own.
    prefix = f"{task}-{code}" if task in ("mlqa", "xlsum") else task
    return [f"{prefix}-{i}" for i in range(n)]


def _rng(draw: int, *words: str) -> np.random.Generator:
    return np.random.default_rng([SEED, draw, *(zlib.crc32(word.encode()) for word in words)])


# -- Verdicts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Verdicts on one claim in one world: how often each, and how often a wrong one."""

    claim: str
    world: str
    effect: str
    seeds: int
    seed_sd: float
    draws: int
    holds: int
    fails: int
    wrong: int

    @property
    def cannot_tell(self) -> int:
        return self.draws - self.holds - self.fails


def calibrate(
    params: Params,
    worlds: list[World],
    draws: int,
    seed_sd: float = 0.0,
    spread: dict[str, Spread] = power.ASSUMED,
    watch: Callable[[], None] = lambda: None,
) -> list[Row]:
    """All verdicts. The noise of a draw is the same in every world, as are the resamples in every draw."""
    params = dataclasses.replace(params, tables=dataclasses.replace(params.tables, bootstrap_samples=SAMPLES))
    content = claims.load()
    noise, resamples = Noise(params, spread), Draws(SAMPLES, params.tables.seed)
    settings = [
        (world, effect, truth(params, world, LEVELS[effect] * params.tables.claim_margin))
        for world, effect in _settings(worlds)
    ]
    sayings = [sayable(params, content, world, means) for world, _, means in settings]
    counts = [Counter() for _ in settings]
    for draw in range(draws):
        drawn_noise = {group: noise.of(*group, draw) for group in groups_of(params)}
        shifts = _seed_shifts(params, seed_sd, draw)
        for (world, _, means), true, count in zip(settings, sayings, counts):
            scores = {g: scores_of(g[0], drawn_noise[g], means[g] + shifts[g[0]]) for g in means}
            results, wrong = Results(collected(params, scores), params, resamples), {}
            for claim in claims.check(content, results, world.claims):
                verdict = claim.verdict("ours")
                count[claim.id, verdict] += 1
                wrong[claim.id] = verdict != claims.CANNOT_TELL and verdict not in true[claim.id]
                count[claim.id, "wrong"] += wrong[claim.id]
            count[ANY, "wrong"] += any(wrong.values())
        watch()
    return [
        Row(
            claim,
            world.name,
            effect,
            len(params.grid.seeds),
            seed_sd,
            draws,
            count[claim, claims.HOLDS],
            count[claim, claims.FAILS],
            count[claim, "wrong"],
        )
        for (world, effect, _), count in zip(settings, counts)
        for claim in (*world.claims, ANY)
    ]


def _settings(worlds: list[World]) -> Iterator[tuple[World, str]]:
    """Without an effect, worlds of the same levels are one."""
    for level in dict.fromkeys(world.level for world in worlds):
        together = [world for world in worlds if world.level is level]
        asked = tuple(claim for world in together for claim in world.claims)
        yield World("off", "nothing", asked, lambda *where: 0.0, level), "absent"
    yield from ((world, effect) for world in worlds for effect in ("margin", "twice"))


def sayable(
    params: Params, content: dict, world: World, means: dict[tuple[str, str], np.ndarray]
) -> dict[str, set[str]]:
    """Claim -> the verdicts that are true: its comparisons asked of true scores, by its own code."""
    exact = {group: np.repeat(values[:, None], 2, axis=1) for group, values in means.items()}
    found = {}
    for claim in claims.check(content, Results(collected(params, exact), params), world.claims):
        holds = [_strictly(c.quantity.value, [c.region.holds]) for c in claim.ours]
        fails = [_strictly(c.quantity.value, c.region.fails) for c in claim.ours]
        if claim.need == "any":
            true = {claims.HOLDS: any(holds), claims.FAILS: all(fails)}
        else:
            true = {claims.HOLDS: all(holds), claims.FAILS: any(fails)}
        found[claim.id] = {verdict for verdict, is_true in true.items() if is_true}
    return found


def _strictly(value: float, regions: list[tuple[float, float]]) -> bool:
    return any(low + 1e-6 < value < high - 1e-6 for low, high in regions)


def _seed_shifts(params: Params, sd: float, draw: int) -> dict[str, np.ndarray]:
    """Task -> what training's own luck adds to the mean of each model; nothing to a base."""
    trained = np.array([isinstance(m.coordinates, Cell) for m in models_of(params)])
    return {
        task: sd * trained * _rng(draw, task, "seeds").standard_normal(len(trained)) for task in params.evaluation.tasks
    }


# -- Command -------------------------------------------------------------------------------------------------------


def read() -> list[Row]:
    with open(PATH, encoding="utf-8", newline="") as file:
        kinds = {field.name: field.type for field in dataclasses.fields(Row)}
        return [Row(**{key: kinds[key](text) for key, text in row.items()}) for row in csv.DictReader(file)]


def as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(Row)])
    table.writerows(dataclasses.astuple(row) for row in rows)
    return text.getvalue()


def error_table(rows: list[Row]) -> str:
    """Verdicts in 100 draws of each claim: where there is no effect, at the margin, at twice the margin."""
    lines = [
        "| claim | no effect: right, cannot tell, wrong | at the margin: wrong | twice the margin: right, cannot tell, wrong |",
        "|---|---|---|---|",
    ]
    found = {(row.claim, row.effect): row for row in rows if (row.seeds, row.seed_sd) == (1, 0)}
    for claim in claims.load()["claims"]:
        absent, margin, twice = (found[claim["id"], effect] for effect in LEVELS)
        lines.append(f"| {claim['id']} | {_three(absent)} | {_percent(margin.wrong, margin)} | {_three(twice)} |")
    return "\n".join(lines)


def seed_table(rows: list[Row]) -> str:
    """Wrong verdicts by what a seed moves and how many seeds there are, over all worlds."""
    lines = [
        "| a seed moves a task's mean by | seeds per cell | draws with a wrong verdict, of all worlds | cannot tell |"
    ]
    lines.append("|---|---|---|---|")
    for setting in sorted({(row.seed_sd, row.seeds) for row in rows}):
        here = [row for row in rows if (row.seed_sd, row.seeds) == setting]
        together = [row for row in here if row.claim == ANY]
        single = [row for row in here if row.claim != ANY and row.effect == "twice"]
        wrong, draws = sum(row.wrong for row in together), sum(row.draws for row in together)
        unsure = sum(row.cannot_tell for row in single) / sum(row.draws for row in single)
        lines.append(
            f"| {setting[0]:g} | {setting[1]} | {100 * wrong / draws:.1f} % of {draws} | {100 * unsure:.1f} % |"
        )
    return "\n".join(lines)


def _three(row: Row) -> str:
    right = row.holds + row.fails - row.wrong
    return ", ".join(_percent(count, row) for count in (right, row.cannot_tell, row.wrong))


def _percent(count: int, row: Row) -> str:
    return f"{100 * count / row.draws:.3g} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"of every world (default: {DRAWS})")
    parser.add_argument("--print", action="store_true", help="print the CSV and write nothing")
    parser.add_argument("--seeds", type=int, default=1, help="per cell (default: 1)")
    parser.add_argument("--seed-sd", type=float, default=0.0, help="what a seed moves a cell's mean on a task by")
    parser.add_argument("--show", action="store_true", help="print the tables of what was drawn before")
    arguments = parser.parse_args()
    if arguments.show:
        print(error_table(read()), seed_table(read()), sep="\n\n")
        return
    params = parameters.load("paper")
    params = dataclasses.replace(
        params, grid=dataclasses.replace(params.grid, seeds=[42 + place for place in range(arguments.seeds)])
    )
    with Progress(arguments.draws, "calibrate", "draws") as progress:
        rows = calibrate(params, list(WORLDS.values()), arguments.draws, arguments.seed_sd, watch=progress.advance)
    if arguments.print:
        print(as_csv(rows), end="")
        return
    setting = (arguments.seeds, arguments.seed_sd)
    others = [row for row in read() if (row.seeds, row.seed_sd) != setting] if PATH.exists() else []
    PATH.write_text(as_csv(sorted([*others, *rows], key=lambda row: (row.seed_sd, row.seeds))), encoding="utf-8")
    print(error_table(read()), seed_table(read()), sep="\n\n")
    print(f"written: {PATH}")


if __name__ == "__main__":
    main()
