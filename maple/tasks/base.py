"""What every task provides: examples from upstream's files, the form in which a model sees them, and how it is scored.

    task = tasks.get("xnli")
    examples = task.examples(folder, language="ar", split="test", repair=False)
    form = task.form("english", "ar", scoring="loglikelihood")
    form.prompt(example)     the text before the answer
    form.options(example)    the answers to compare, each with its leading space; None for free text
    form.shot(example)       prompt and right answer; shots and the question's prompt are joined by `form.join`
    task.rule                the name of the rule in maple/scoring/rules.py that turns an answer into scores
    task.answer_part         what of a generated text is the answer: its first line, or all of it

Nothing here imports torch, and nothing here scores: a changed metric asks no model again.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from maple.config import catalogue
from maple.core import storage
from maple.core.errors import MapleError, nearest
from maple.tasks import prompts
from maple.upstream import languages

Scoring = Literal["loglikelihood", "generation"]


@dataclass(frozen=True)
class Example:
    """One item. `reference` is the index of the right option, or a list of right texts (one is enough)."""

    id: str
    language: str
    fields: dict[str, Any] = field(hash=False)
    reference: Any = field(hash=False)
    # True where a documented upstream fault was corrected (params `repair`); the count goes into the record.
    repaired: bool = False


@dataclass(frozen=True)
class Form:
    """How a task is put to a model: one prompt file of maple/tasks/prompts, for one language and way of scoring."""

    name: str
    text: str
    option_texts: tuple[str, ...]
    answer_text: str | None
    words: dict[str, str] = field(hash=False)
    derive: Callable[[Example, dict[str, str]], dict[str, Any]] = field(compare=False)
    # Between two shots, and between the last shot and the question.
    join: str = "\n\n"
    # A generated answer ends before the first of these; the end-of-text token always ends it.
    stop: tuple[str, ...] = ("\n",)

    def prompt(self, example: Example) -> str:
        return prompts.fill(self.text, self.derive(example, self.words), self.name)

    def options(self, example: Example) -> list[str] | None:
        if not self.option_texts:
            return None
        values = self.derive(example, self.words)
        return [prompts.fill(text, values, self.name) for text in self.option_texts]

    def answer(self, example: Example) -> str:
        """The right answer with its leading space."""
        options = self.options(example)
        if options is not None:
            return options[example.reference]
        return prompts.fill(self.answer_text, self.derive(example, self.words), self.name)

    def shot(self, example: Example) -> str:
        """An example with its answer. Where the prompt is empty (harness XNLI), the answer keeps its leading space."""
        return self.prompt(example) + self.answer(example)

    @property
    def fingerprint(self) -> str:
        """Changes whenever a character that the model sees through this form changes; part of a score's signature."""
        return storage.fingerprint([self.text, self.option_texts, self.answer_text, self.words, self.join, self.stop])


class Task:
    """Base of the tasks: a subclass sets the attributes and writes `read`, where needed `derive`."""

    name: str
    # The key in sources.yaml whose files `examples` reads.
    source: str
    splits: tuple[str, ...]
    # Of maple/scoring/rules.py.
    rule: str
    # For the plan: upstream's examples per language in the split that the paper profile scores, and the tokens that a
    # model reads for each (assumed, with prefixes shared, until a finished run says better).
    size: int
    tokens: int
    # What of a generated text is the answer: its first line, or all of it.
    answer_part: Literal["line", "text"] = "line"
    # The field to shorten from its end where a prompt exceeds the model's context; None: no field is long.
    long_field: str | None = None
    stop: tuple[str, ...] = ("\n",)
    # Whether ids are the same for translations of one item.
    parallel: bool = True
    # Evaluated split -> (task whose examples serve as shots, split).
    shots_from: dict[str, tuple[str, str]] = {}

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the languages that it can be asked in: those of its source."""
        return catalogue.datasets()[self.source].codes

    def examples(self, folder: Path, language: str, split: str, repair: bool = False) -> list[Example]:
        """All examples of a language in upstream's order.

        Variants of a language (zh: Hans and Hant, files of their own) alternate, so that the first rows hold both.
        The first variant's ids are upstream's, by which translations of one item find each other; those of a
        further variant end in its name.

        `folder` is sources/datasets/<source>. Raises MapleError that names file, row and field of the first bad row.
        """
        self._check_split(split)
        known = self.codes
        if language not in known:
            raise MapleError(
                f"{self.name} has no language '{language}'",
                why="upstream has no file for it",
                do=nearest(language, known),
            )
        variants: list[list[Example]] = []
        for name in languages.table()[language].upstream.get(self.source, (language,)):
            found = self.read(Path(folder), language, name, split, repair)
            if not found:
                raise MapleError(
                    f"{self.name} {language} {split}: there are no rows",
                    why=f"the file that upstream calls {name} is empty, so there is nothing to score",
                    do="run the download stage again",
                )
            # Ids of a second variant carry its name.
            variants.append(
                [dataclasses.replace(example, id=f"{example.id} {name}") for example in found] if variants else found
            )
        examples = [e for row in itertools.zip_longest(*variants) for e in row if e is not None]
        seen: set[str] = set()
        for example in examples:
            if example.id in seen:
                raise MapleError(
                    f"{self.name} {language} {split}: id '{example.id}' occurs twice",
                    why="scores are kept by id, so one of the two would be lost",
                    do="download the file again; upstream's ids are unique",
                )
            seen.add(example.id)
        return examples

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        """Examples of one upstream variant; `name` is the data set's own name for it (a column of languages.csv)."""
        raise NotImplementedError

    def derive(self, example: Example, words: dict[str, str]) -> dict[str, Any]:
        """The values for a prompt file's placeholders; `words` is the file's [words] section."""
        return example.fields

    def form(self, prompt_set: str, language: str, scoring: Scoring) -> Form:
        """The prompt file for a language; an error, never a fallback, where the set has none."""
        file = prompts.load(prompt_set, self.name, language)
        text, options, answer = file.sections(scoring)
        if scoring == "loglikelihood" and not options:
            raise MapleError(
                f"{self.name} cannot be scored by loglikelihood",
                why="its answers are free text, so there are no options to compare",
                do=f"set evaluation.tasks.{self.name}.scoring to generation",
            )
        if scoring == "generation" and any("{" in option for option in options):
            raise MapleError(
                f"prompt {file.name} is for loglikelihood only",
                why="its options are whole sentences; no model generates one of them to the letter",
                do=f"set evaluation.tasks.{self.name}.scoring to loglikelihood, or choose another prompt_set",
            )
        stop = self.stop if file.stop is None else file.stop
        return Form(file.name, text, options, answer, file.words, self.derive, stop=stop)

    def check(self, options: Any) -> None:
        """Raise MapleError where the task cannot be asked as `options` (params.TaskOptions) say; reads no data."""
        self._check_split(options.split)
        codes = options.languages
        if options.shots:
            source, _ = self.shot_split(options.split)
            shown = options.shots_in(codes)
            known = catalogue.datasets()[source].codes
            for code in shown:
                if code not in known:
                    raise MapleError(
                        f"{self.name} has no shots in language '{code}'",
                        why=f"they come from {source}, which has {', '.join(known)}",
                        do=f"set evaluation.tasks.{self.name}.shot_language to one of these, or leave the language out",
                    )
            codes = [*codes, *shown]
        for code in codes:
            self.form(options.prompt_set, code, options.scoring)

    def more_for_repair(self, codes: Iterable[str]) -> list[str]:
        """Languages whose files `repair` reads besides those of `codes`."""
        return []

    def shot_split(self, split: str) -> tuple[str, str]:
        """Task and split that few-shot examples come from; never the evaluated split of the evaluated task."""
        self._check_split(split)
        if split not in self.shots_from:
            raise MapleError(
                f"{self.name} {split} has nothing to take shots from",
                why="upstream has no other split, and examples from the evaluated one would leak answers",
                do=f"set evaluation.tasks.{self.name}.shots to 0"
                + (f", or evaluate {' or '.join(self.shots_from)}" if self.shots_from else ""),
            )
        return self.shots_from[split]

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise MapleError(
                f"{self.name} has no split '{split}'", why="upstream has no such file", do=nearest(split, self.splits)
            )


class ChoiceTask(Task):
    """A task with a right option among several."""

    rule = "accuracy"


def draw(pool: list[Example], count: int, seed: int) -> list[Example]:
    """`count` shots, the same for every question of a language, in the order in which a prompt shows them.

    The draw depends on the seed and the pool's size only, so languages with parallel files get the same rows.
    A context too short for all drops them from the first (oldest).
    """
    if count > len(pool):
        raise MapleError(
            f"{count} shots asked for, {len(pool)} examples to draw from",
            why="a shot is shown once",
            do="lower `shots`, or name another `shot_language`",
        )
    return [pool[i] for i in random.Random(seed).sample(range(len(pool)), count)]


def sample(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """`limit` of a language's examples in upstream's order; all of them where `limit` is None.

    Each example's place in the draw depends on the seed and its own id only. So every model gets the same rows,
    languages that share ids get translations of the same items as far as they have them, and a larger limit adds
    rows to those of a smaller one.
    """
    if limit is None:
        return examples
    drawn = {
        example.id for example in sorted(examples, key=lambda example: storage.fingerprint([seed, example.id]))[:limit]
    }
    return [example for example in examples if example.id in drawn]
