"""Tables 1 and 2 from collected scores, in the paper's layout, with the choice behind every row.

"With best rank quantisation" is read by `tables.best`: `row` takes, for each row, the configuration with the best
average over tasks; `cell` takes the best per column; `heldout` takes the lowest loss on held-out instructions, the
only one of the three that does not look at the test scores it then prints. Ties go to the smaller rank, then to
fewer bits. Replicate seeds of a configuration are averaged.

What the choice on the printed scores costs is printed beside them (`Results.choice`). Averages over tasks mix accuracy,
F1 and ROUGE-L: they are an index, by which rows can be ordered, and no score of anything.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from maple.config.cell import Base
from maple.config.methods import METHODS
from maple.config.params import Params
from maple.results import published
from maple.results.collect import EXPERIMENT, Collected
from maple.results.published import Row, TableLayout
from maple.results.quantities import Choice, Draws, Quantity, Resampled, SeedNoise, choose, mean
from maple.results.render import Table, paper_table
from maple.upstream import languages

SMOKE = "SMOKE: tiny models on sample rows; these numbers say nothing about the paper"
STAND_IN = "STAND-IN JUDGE: these win rates come from a local rule, not from AlpacaEval's annotator"
MISSING = "missing"
AVERAGE = "average"
# Of Table 1, whose average is over these; a task that the paper does not have stands in the tables behind them.
PAPER_TASKS = tuple(column.task for column in published.layout("table1").columns if column.task)


@dataclass(frozen=True)
class Configuration:
    """One rank and bit width of a row: the names of its cells, one per seed. `rank` is None where a method has none."""

    rank: int | None
    bits: int
    names: tuple[str, ...]
    method: str = "lora"

    @property
    def text(self) -> str:
        label = "" if self.method == "lora" else METHODS[self.method].label
        rank = "" if self.rank is None else f"r{self.rank}"
        return " ".join(filter(None, [label, rank, f"{self.bits} bits"]))

    @classmethod
    def base(cls, model: str, bits: int) -> "Configuration":
        """The model before finetuning, as rank 0."""
        return cls(0, bits, (Base(model, bits).name,))


@dataclass(frozen=True)
class Entry:
    """One number of ours in a table: what is printed and what it rests on. `spread` is the range over seeds, `choice`
    the printed number without what it owes to the choice of its configuration.
    """

    row: str
    column: str
    printed: str
    quantity: Quantity | None
    chance: float | None
    configuration: Configuration | None
    spread: float | None
    choice: Choice | None = None


@dataclass(frozen=True)
class Ours:
    """A regenerated table: scores by (row, column), and the rows that the paper does not have."""

    layout: TableLayout
    scores: dict[tuple[str, str], Entry]
    more: tuple[Row, ...]

    @property
    def printed(self) -> dict[tuple[str, str], str]:
        return {key: score.printed for key, score in self.scores.items()}


class Results:
    """Scores of one profile, looked up by the words of the paper; all that is printed or tested comes from here."""

    def __init__(self, collected: Collected, params: Params, draws: Draws | None = None):
        self.collected, self.params = collected, params
        samples, seed = params.tables.bootstrap_samples, params.tables.seed
        self.resampled = Resampled(collected, samples, seed, draws)
        self.chances = {score.task: score.chance for score in collected.scores if score.primary}
        self.rows = self._rows()
        families: dict[str, list[tuple[str, ...]]] = {}
        for (model, _), configurations in self.rows.items():
            families.setdefault(model, []).extend(configuration.names for configuration in configurations)
        self._seed_noise = SeedNoise(families, samples, seed)
        self._scores: dict[tuple, Quantity | None] = {}
        self._chosen: dict[tuple[str, str], Configuration | None] = {}

    @property
    def further(self) -> list[str]:
        """What was evaluated besides the tasks of Table 1: AlpacaEval, and tasks that the paper does not have."""
        return [task for task in self.params.evaluation.tasks if task not in PAPER_TASKS]

    @property
    def label(self) -> str | None:
        return SMOKE if self.params.is_smoke else None

    def label_of(self, table: str) -> str | None:
        """What every file of a table says first; None when its numbers are what they seem."""
        stand_in = table == "table2" and self.params.judge.annotator == "stand-in"
        return self.label or (STAND_IN if stand_in else None)

    def _rows(self) -> dict[tuple[str, str], list[Configuration]]:
        """(model, training set) -> its configurations, by rank, then bits; those of the grid only."""
        found: dict[tuple[str, str], dict[tuple[int, int], list[str]]] = {}
        for cell in self.params.cells:
            configurations = found.setdefault((cell.base.model, cell.dataset), {})
            configurations.setdefault((cell.rank, cell.base.bits), []).append(cell.name)
        return {
            row: [
                Configuration(rank, bits, tuple(names), self.params.recipe.method)
                for (rank, bits), names in sorted(configurations.items())
            ]
            for row, configurations in found.items()
        }

    @property
    def experiment(self) -> Configuration | None:
        """The experiment's, where it was scored; what it is, its own records say."""
        record = self.collected.records.get(EXPERIMENT)
        if not record:
            return None
        method = record["adapter"]["recipe"]["method"] if record["adapter"] else "lora"
        return Configuration(record["rank"], record["bits"], (EXPERIMENT,), method)

    # -- one score -------------------------------------------------------------------------------------------------

    def score(self, configuration: Configuration, column: str, codes: list[str] | None = None) -> Quantity | None:
        """A task's mean over languages, or the average over Table 1's tasks; mean over seeds. None when incomplete."""
        tasks = [column] if column != AVERAGE else PAPER_TASKS
        return self._mean_of(configuration.names, dict.fromkeys(tasks, codes))

    def _mean_of(self, names: tuple[str, ...], asked: dict[str, list[str] | None]) -> Quantity | None:
        """Mean over tasks and the seeds `names`; the interval covers examples and, where there are several, seeds."""
        key = (names, *((task, None if codes is None else tuple(codes)) for task, codes in asked.items()))
        # Claims ask for the same means again and again.
        if key not in self._scores:
            found = [self.resampled.score(name, task, codes) for name in names for task, codes in asked.items()]
            quantity = None if not found or None in found else mean(found)
            if quantity and len(names) > 1:
                noise = self._seed_noise.of(names, lambda name: _value(self._mean_of((name,), asked)))
                quantity = dataclasses.replace(quantity, replicates=quantity.replicates + noise)
            self._scores[key] = quantity
        return self._scores[key]

    def languages(self, column: str, keep: Callable[[str], bool]) -> dict[str, list[str]]:
        """Task -> those of its languages that `keep` accepts; tasks left with none are left out."""
        found = {
            task: [code for code in self.collected.languages(task) if keep(code)]
            for task in (PAPER_TASKS if column == AVERAGE else (column,))
        }
        return {task: codes for task, codes in found.items() if codes}

    def score_among(self, configuration: Configuration, column: str, keep: Callable[[str], bool]) -> Quantity | None:
        """As `score`, over the languages that `keep` accepts; the average is over the tasks that have any."""
        return self._mean_of(configuration.names, self.languages(column, keep))

    def spread(self, configuration: Configuration, column: str) -> float | None:
        """Range over replicate seeds; None with one seed."""
        if len(configuration.names) < 2:
            return None
        found = [self.score(dataclasses.replace(configuration, names=(name,)), column) for name in configuration.names]
        return None if None in found else max(q.value for q in found) - min(q.value for q in found)

    # -- the choice ------------------------------------------------------------------------------------------------

    def chosen(self, model: str, dataset: str, column: str) -> Configuration | None:
        """The configuration that stands in this row and column; None when no configuration is complete."""
        by = self._chosen_by(column)
        if (model, dataset, by) not in self._chosen:
            self._chosen[model, dataset, by] = self._choose(self.rows.get((model, dataset), []), by)
        return self._chosen[model, dataset, by]

    def choice(
        self, model: str, dataset: str, column: str, score: Callable[[Configuration], Quantity | None]
    ) -> Choice | None:
        """`score` of the chosen configuration, and what it owes to the choice; None when there is none.

        Nothing is owed where the held-out loss chooses, which looks at no score. The interval covers the choice among
        the configurations that were run, not that of the grid.
        """
        chosen = self.chosen(model, dataset, column)
        printed = score(chosen) if chosen else None
        if printed is None:
            return None
        by = self._chosen_by(column)
        candidates = [c for c in self.rows[model, dataset] if self.score(c, by) and score(c)]
        if self.params.tables.best == "heldout" or len(candidates) < 2:
            return Choice(printed, printed, 0.0)
        ranked, found = [self.score(c, by) for c in candidates], [score(c) for c in candidates]
        return choose(ranked, found, candidates.index(chosen))

    def _chosen_by(self, column: str) -> str:
        return column if self.params.tables.best == "cell" or column == "alpaca_eval" else AVERAGE

    def _choose(self, configurations: list[Configuration], by: str) -> Configuration | None:
        if self.params.tables.best == "heldout":
            ranked = [(self._heldout_loss(c), c) for c in configurations if self._heldout_loss(c) is not None]
        else:
            ranked = [(-q.value, c) for c in configurations if (q := self.score(c, by)) is not None]
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def _heldout_loss(self, configuration: Configuration) -> float | None:
        """Mean over seeds of the adapter's loss on held-out instructions."""
        adapters = [self.collected.records.get(name, {}).get("adapter") for name in configuration.names]
        losses = [adapter["heldout_loss"]["after"] for adapter in adapters if adapter]
        return sum(losses) / len(losses) if len(losses) == len(configuration.names) else None

    # -- the two tables --------------------------------------------------------------------------------------------

    def table(self, name: str) -> Ours:
        layout = published.layout(name)
        labels = Labels(layout)
        quoted = published.printed(name)
        scores = {}
        for row in layout.rows:
            if row.baseline:
                for (key, column), text in quoted.items():
                    if key == row.key:
                        scores[key, column] = Entry(key, column, text, None, None, None, None)
            else:
                scores |= self._row(layout, row.key, tuple(row.key.split(".", 1)))
        more = []
        known = {row.key for row in layout.rows}
        for model, dataset in self.rows:
            key = f"{model}.{dataset}"
            if key not in known:
                more.append(Row(key, (labels.model(model), labels.dataset(dataset))))
                scores |= self._row(layout, key, (model, dataset))
        configuration = self.experiment
        if configuration:
            experiment = self.collected.records[EXPERIMENT]
            model, dataset = labels.model(experiment["model"]), labels.dataset(experiment["dataset"])
            more.append(Row(EXPERIMENT, (f"experiment: {model}", f"{dataset} {configuration.text}")))
            scores |= self._row(layout, EXPERIMENT, configuration)
        return Ours(layout, scores, tuple(more))

    def _row(self, layout: TableLayout, key: str, of: tuple[str, str] | Configuration) -> dict[tuple[str, str], Entry]:
        """`of`: (model, training set), of which a configuration is chosen, or the experiment's."""
        row: dict[tuple[str, str], Entry] = {}
        for column in layout.columns:
            if column.key == AVERAGE and self.params.tables.best == "cell" and key != EXPERIMENT:
                # The mean of the printed cells, each from its own configuration.
                entries = [row[key, task] for task in PAPER_TASKS]
                found = [entry.quantity for entry in entries]
                quantity = None if None in found else mean(found)
                choice = (
                    Choice(
                        quantity,
                        mean([e.choice.corrected for e in entries]),
                        sum(e.choice.cost for e in entries) / len(entries),
                    )
                    if quantity
                    else None
                )
                row[key, AVERAGE] = Entry(key, AVERAGE, self.text(quantity, layout), quantity, None, None, None, choice)
                continue
            scored = column.task or (AVERAGE if column.key == AVERAGE else "alpaca_eval")
            configuration = of if isinstance(of, Configuration) else self.chosen(*of, scored)
            quantity = self.score(configuration, scored) if configuration else None
            if column.key in ("rank", "quantisation"):
                found = getattr(configuration, {"rank": "rank", "quantisation": "bits"}[column.key], None)
                text = ("NA" if found is None else str(found)) if quantity else MISSING
                row[key, column.key] = Entry(key, column.key, text, None, None, configuration, None)
                continue
            spread = self.spread(configuration, scored) if configuration else None
            chance = self.chances.get(scored)
            choice = None
            if not isinstance(of, Configuration):
                choice = self.choice(*of, scored, lambda c, scored=scored: self.score(c, scored))
            row[key, column.key] = Entry(
                key, column.key, self.text(quantity, layout), quantity, chance, configuration, spread, choice
            )
        return row

    def text(self, quantity: Quantity | None, layout: TableLayout) -> str:
        return (
            MISSING
            if quantity is None
            else rounded(quantity.value, layout.digits, layout.scale, self.params.tables.average)
        )


def _value(quantity: Quantity | None) -> float | None:
    return quantity.value if quantity else None


class Labels:
    """Models and training sets as the paper spells them in one table; others by their own name."""

    def __init__(self, layout: TableLayout):
        self._models, self._datasets, model = {}, {}, ""
        for row in layout.rows:
            model = row.printed[0] or model
            if not row.baseline:
                key, dataset = row.key.split(".", 1)
                self._models[key], self._datasets[dataset] = model, row.printed[1]

    def model(self, key: str) -> str:
        return self._models.get(key, key)

    def dataset(self, key: str) -> str:
        return self._datasets.get(key, key)


def rounded(value: float, digits: int, scale: int = 1, rule: str = "half-up") -> str:
    """A number as printed, rounded in decimals: binary floats would round .685 down and .525 up.

    >>> rounded(0.685, 2), rounded(0.685, 2, rule="half-even"), rounded(0.13726, 2, scale=100)
    ('0.69', '0.68', '13.73')
    """
    way = {"half-up": ROUND_HALF_UP, "half-even": ROUND_HALF_EVEN}[rule]
    found = (Decimal(repr(value)) * scale).quantize(Decimal(1).scaleb(-digits), rounding=way)
    # No -0.00.
    return str(found if found else abs(found))


def regenerated(results: Results, name: str) -> Table:
    """A table of ours, ready to print."""
    ours = results.table(name)
    return paper_table(ours.layout, ours.printed, ours.more, results.label_of(name), _notes(results, name))


def printed(name: str) -> Table:
    """A table of the paper, ready to print."""
    return paper_table(published.layout(name), published.printed(name))


def _notes(results: Results, name: str) -> list[str]:
    """What a reader must know about ours, before the notes on the paper's table."""
    chosen = {
        "row": "each row shows the configuration with the best average over tasks, chosen on the scores it prints",
        "cell": "each cell shows the best configuration of its column, chosen on the scores it prints",
        "heldout": "each row shows the configuration with the lowest loss on held-out instructions",
    }[results.params.tables.best]
    if name == "table2" and results.params.tables.best != "heldout":
        chosen = "each row shows the configuration with the best win rate, chosen on the win rates it prints"
    notes = [
        f"Ours: {chosen}; details/{name}_cells.csv names it, with the interval.",
        *_choice_note(results, name),
        f"Ours: {seeds_note(results.params)}",
        "Ours: baseline rows are quoted from the paper; they are not run here.",
    ]
    if any(
        "prompt:followup/" in s.signature or "metric:f1_abstractive" in s.signature for s in results.collected.scores
    ):
        notes.append("Ours: asked or scored by the protocol of the authors' follow-up (docs/DEVIATIONS.md).")
    if name == "table2":
        if results.params.judge.annotator == "stand-in":
            notes.append(f"Ours: {STAND_IN}.")
        asked = {s.signature.partition("@")[2] for s in results.collected.scores if s.task == "alpaca_eval"} - {""}
        notes += [
            f"Ours: the annotator was asked at {place}; only that server knows what answered."
            for place in sorted(asked)
        ]
    return notes


def seeds_note(params: Params) -> str:
    """What intervals cover."""
    count = len(params.grid.seeds)
    if count == 1:
        return "intervals cover the choice of examples; with one seed per cell nothing says what another would give."
    return f"intervals cover the choice of examples and of {count} training seeds per cell; languages are fixed."


def _choice_note(results: Results, name: str) -> list[str]:
    """How much the choice on the printed scores lifts them."""
    entries = results.table(name).scores.values()
    costs = [entry.choice.cost * published.layout(name).scale for entry in entries if entry.choice]
    if results.params.tables.best == "heldout" or not costs:
        return []
    return [
        f"Ours: that choice lifts them by {rounded(sum(costs) / len(costs), 3)} on average and {rounded(max(costs), 3)} at "
        f"most; details/{name}_choice.md has the cost in each cell, and the interval that covers the choice."
    ]


# -- Tables the paper does not print -------------------------------------------------------------------------------


def cells_csv(results: Results, name: str) -> Table:
    """Every number of ours in a table of the paper, unrounded, with interval, chance and configuration."""
    ours = results.table(name)
    confidence = results.params.tables.confidence
    rows = []
    for (row, column), score in ours.scores.items():
        if score.quantity is None and score.printed != MISSING:
            continue
        rows.append(
            [
                row,
                column,
                score.printed,
                *numbers(score.quantity, confidence),
                _number(score.chance),
                _configuration(score),
                _number(score.spread),
                *_corrected(score.choice, confidence),
            ]
        )
    header = ["row", "column", "printed", "value", "low", "high", "n", "chance", "rank", "bits", "cells", "seed_range"]
    header += ["choice_cost", "corrected", "corrected_low", "corrected_high"]
    return Table(f"Cells of {name}", header, [_flat(row) for row in rows], label=results.label_of(name))


def choice_table(results: Results, name: str) -> Table:
    """The chosen configurations of a table of the paper: each printed number, what it owes to the choice, and what is left
    with an interval that covers the choice.
    """
    ours = results.table(name)
    confidence, scale = results.params.tables.confidence, ours.layout.scale
    columns = [column for column in ours.layout.columns if column.key not in ("rank", "quantisation")]
    found = {key: entry.choice for key, entry in ours.scores.items() if entry.choice}
    rows = []
    for row in dict.fromkeys(key for key, _ in found):
        texts = []
        for column in columns:
            choice = found.get((row, column.key))
            if choice is None:
                texts.append(MISSING)
                continue
            shown = (choice.printed.value, choice.cost, *_without_choice(choice, confidence))
            printed, cost, value, low, high = (rounded(number, 3, scale) for number in shown)
            texts.append(f"{printed}, cost {cost}: {value} [{low}, {high}]")
        rows.append([*row.split(".", 1), *texts])
    notes = [
        "Printed score, cost of the choice: score without it [interval that covers examples and the choice].",
        "Where configurations differ little, about a third of the cost is not found: docs/CLAIMS.md.",
        f"The columns mix metrics, so {AVERAGE} is an index.",
        seeds_note(results.params).capitalize(),
    ]
    header = ["model", "dataset", *(column.header for column in columns)]
    title = f"What choosing the configurations of {name} on its own scores costs"
    return Table(title, header, rows, notes=notes, label=results.label_of(name))


def _corrected(choice: Choice | None, confidence: float) -> list[str]:
    if choice is None:
        return [""] * 4
    return [f"{number:.6f}" for number in (choice.cost, *_without_choice(choice, confidence))]


def _without_choice(choice: Choice, confidence: float) -> tuple[float, float, float]:
    """Score and interval; what a score cannot be is left out of it."""
    value, low, high = choice.corrected.interval(confidence)
    return value, max(0.0, low), min(1.0, high)


def grid_csv(results: Results) -> Table:
    """Every cell, base and the experiment: each task's mean over languages and the average, with intervals."""
    header = ["name", "kind", "model", "dataset", "rank", "bits", "seed", "column", "value", "low", "high", "n"]
    rows = []
    for name, record in results.collected.records.items():
        where = [
            name,
            record["kind"],
            record["model"],
            record["dataset"],
            record["rank"],
            record["bits"],
            record["seed"],
        ]
        configuration = Configuration(record["rank"] or 0, record["bits"], (name,))
        for column in (*PAPER_TASKS, AVERAGE, *results.further):
            found = numbers(results.score(configuration, column), results.params.tables.confidence)
            rows.append([_number(value) for value in where] + [column, *found])
    return Table("All cells, bases and the experiment", header, rows, label=results.label)


def language_rows(results: Results, task: str) -> list[dict[str, str]]:
    """One row per language and column: each base (most bits), each row's choice, the experiment; unrounded."""
    rows = []
    for code in results.collected.languages(task):
        for column, configuration in _language_columns(results, task).items():
            quantity = results.score(configuration, task, [code])
            value, low, high, n = numbers(quantity, results.params.tables.confidence)
            language = languages.table()[code]
            rows.append(
                {
                    "language": code,
                    "name": language.name,
                    "script": language.script,
                    "group": _number(language.group),
                    "resource": language.resource,
                    "column": column,
                    "configuration": "base" if configuration.rank == 0 else configuration.text,
                    "value": value,
                    "low": low,
                    "high": high,
                    "n": n,
                    "chance": _number(results.chances.get(task)),
                }
            )
    return rows


def language_tables(results: Results, task: str) -> tuple[Table, Table]:
    """A task by language: long and unrounded for the machine, wide and rounded for the eye."""
    rows = language_rows(results, task)
    title, label = f"{task} by language", results.label_of("table2" if task == "alpaca_eval" else "table1")
    header = list(rows[0]) if rows else ["language"]
    long = Table(title, header, [list(row.values()) for row in rows], label=label)
    columns = list(_language_columns(results, task))
    by_language: dict[str, dict[str, str]] = {}
    for row in rows:
        text = rounded(float(row["value"]), 2, 1, results.params.tables.average) if row["value"] != MISSING else MISSING
        by_language.setdefault(row["language"], {})[row["column"]] = text
    known = languages.table()
    wide = [
        [code, known[code].name, _number(known[code].group), *(texts[c] for c in columns)]
        for code, texts in by_language.items()
    ]
    chance = results.chances.get(task)
    notes = [f"Chance level {rounded(chance, 2)}."] if chance else []
    return long, Table(title, ["code", "language", "group", *columns], wide, notes=notes, label=label)


def _language_columns(results: Results, task: str) -> dict[str, Configuration]:
    """Header -> configuration: per model its base and its training sets, then the experiment."""
    columns: dict[str, Configuration] = {}
    for model, dataset in results.rows:
        bits = max(base.bits for base in results.params.bases if base.model == model)
        columns.setdefault(f"{model} base", Configuration.base(model, bits))
        configuration = results.chosen(model, dataset, task)
        if configuration:
            columns[f"{model} {dataset}"] = configuration
    if results.experiment:
        columns[EXPERIMENT] = results.experiment
    return columns


def numbers(quantity: Quantity | None, confidence: float) -> list[str]:
    """value, low, high, n as text, unrounded; `missing` where there is no score."""
    if quantity is None:
        return [MISSING, "", "", ""]
    value, low, high = quantity.interval(confidence)
    return [repr(value), f"{low:.6f}", f"{high:.6f}", str(quantity.n)]


def _configuration(score: Entry) -> list[str]:
    found = score.configuration
    return [_number(found.rank), str(found.bits), " ".join(found.names)] if found else ["", "", ""]


def _number(value: object) -> str:
    return "" if value is None else str(value)


def _flat(row: list) -> list[str]:
    return [text for part in row for text in (part if isinstance(part, list) else [part])]
