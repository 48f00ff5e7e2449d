"""A task and language as the questions that a model gets: examples, shots before them, all within its context."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maple import tasks
from maple.config.params import TaskOptions
from maple.tasks.base import Example, Form, Task, draw, sample


@dataclass(frozen=True)
class Sheet:
    """What is asked in one task and language; `shots` are filled in, oldest first. Ready without a tokeniser."""

    task: Task
    language: str
    options: TaskOptions
    form: Form
    shots: tuple[str, ...]
    examples: list[Example]

    @property
    def name(self) -> str:
        return f"{self.task.name}-{self.language}"

    def texts(self) -> list:
        """Every character that the model may see, for the fingerprint of a score."""
        return [self.shots, [[e.id, self.form.prompt(e), self.form.options(e), e.reference] for e in self.examples]]


@dataclass(frozen=True)
class Question:
    """One example as it is put to the model. `options` is None for free text. `shots_dropped`: left out from the
    oldest on because the context is short; `shortened`: the text itself had to be cut too."""

    example: Example
    prompt: str
    options: list[str] | None
    shots_dropped: int = 0
    shortened: bool = False


def sheet(name: str, language: str, options: TaskOptions, datasets: Path, seed: int) -> Sheet:
    """A sample of `limit` examples of a language, and its shots; `datasets` is sources/datasets."""
    task = tasks.get(name)
    form = task.form(options.prompt_set, language, options.scoring)
    found = task.examples(Path(datasets) / task.source, language, options.split, options.repair)
    examples = sample(found, options.limit, seed)
    shots: tuple[str, ...] = ()
    if options.shots:
        source, split = task.shot_split(options.split)
        (code,) = options.shots_in([language])
        pool = tasks.get(source).examples(Path(datasets) / tasks.get(source).source, code, split, options.repair)
        written = task.form(options.prompt_set, code, options.scoring)
        shots = tuple(written.shot(example) for example in draw(pool, options.shots, seed))
    return Sheet(task, language, options, form, shots, examples)


def questions(asked: Sheet, room: int, count: Callable[[str], int]) -> list[Question]:
    """The questions of a sheet, each within `room` tokens (`count` counts those of a text, answer included).

    Where one is longer, shots are dropped from the oldest on, then the task's long field is cut at its end; what
    is still too long is cut from the left when it is tokenised.
    """
    return [_fit(asked, example, room, count) for example in asked.examples]


def _fit(asked: Sheet, example: Example, room: int, count: Callable[[str], int]) -> Question:
    form = asked.form

    def prompt(shots: Sequence[str], shown: Example) -> str:
        return form.join.join([*shots, form.prompt(shown)])

    options = form.options(example) if asked.options.scoring == "loglikelihood" else None
    answers = options or [""]
    most_bytes = max(len(text.encode("utf-8")) for text in answers)

    def fits(text: str) -> bool:
        # A token covers at least one byte, so most questions need not be tokenised, and most others once; 8 for begin
        # and end of text, and what changes where the two meet. Else each option is counted: the one with the most bytes
        # need not have the most tokens.
        return (
            len(text.encode("utf-8")) + most_bytes + 8 <= room
            or count(text) + most_bytes + 8 <= room
            or all(count(text + answer) <= room for answer in answers)
        )

    shots = list(asked.shots)
    while shots and not fits(prompt(shots, example)):
        del shots[0]
    dropped = len(asked.shots) - len(shots)
    text = prompt(shots, example)
    if fits(text):
        return Question(example, text, options, dropped)
    field = asked.task.long_field
    if field is None:
        return Question(example, text, options, dropped, shortened=True)
    value, low, high = example.fields[field], 0, len(example.fields[field])
    while low < high:
        middle = (low + high + 1) // 2
        shown = dataclasses.replace(example, fields=example.fields | {field: value[:middle]})
        low, high = (middle, high) if fits(prompt(shots, shown)) else (low, middle - 1)
    shown = dataclasses.replace(example, fields=example.fields | {field: value[:low]})
    return Question(example, prompt(shots, shown), options, dropped, shortened=True)
