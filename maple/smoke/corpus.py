"""What the tiny bases read before any finetuning: the content of the tasks in a form of their own.

A document says something and, after the mark `⇒`, what follows from it: the answer to a question, whether a statement is
true, an effect, a summary. The prompts of the tasks (maple/tasks/prompts) occur too, but with an answer drawn at random:
a base knows what the tasks ask about, and not that their prompts ask it. That is left to the instruction rows.
"""

import dataclasses
import random
from collections.abc import Callable
from functools import cache

from maple import tasks
from maple.preparation import training_prompt
from maple.smoke import exercises, texts, world
from maple.smoke.world import Life
from maple.tasks.base import Example, Form

MARK = " ⇒ "
LETTERS = "ABCD"
# Documents by language, in shares: much text, some, little, as on the Web. zh is written in both variants.
SHARES = {"en": 12, "de": 8, "es": 8, "ru": 8, "ar": 8, "zh": 8, "ja": 8, "tr": 5, "hi": 5, "el": 5, "bg": 5} | {
    "zh-hant": 4, "th": 3, "ta": 3, "sw": 3,
}  # fmt: skip


def document(rng: random.Random, text: str) -> str:
    """One document in the language of texts/<text>.yaml."""
    makers = [*_PLAIN, *([_events, _exercise] if "events" in texts.load(text) else [])]
    return rng.choice(makers)(rng, text) if rng.random() < 0.8 else _form(rng, text)


def documents(rng: random.Random, count: int) -> list[str]:
    codes, shares = zip(*SHARES.items())
    return [document(rng, code) for code in rng.choices(codes, shares, k=count)]


def _life(rng: random.Random, text: str) -> Life:
    return Life(text, rng.choice(world.people(False)), world.draw_choice(rng))


def _again(rng: random.Random, text: str) -> str:
    """The same facts said twice, in another order: a model learns to look back."""
    life = _life(rng, text)
    return life.passage(world.draw_order(rng))[0] + MARK + life.passage(world.draw_order(rng, 4))[0]


def _questions(rng: random.Random, text: str) -> str:
    life = _life(rng, text)
    asked = [life.question(fact) + MARK + life.values[fact] for fact in world.draw_order(rng, 3)]
    return "\n".join([life.passage(world.draw_order(rng))[0], *asked])


def _options(rng: random.Random, text: str) -> str:
    life = _life(rng, text)
    lines = [life.passage(world.draw_order(rng))[0]]
    for fact in world.draw_order(rng, 2):
        place = rng.randrange(4)
        lines.append(life.question(fact))
        lines += [f"{letter}: {value}" for letter, value in zip(LETTERS, life.options(fact, place, rng))]
        lines[-1] += MARK + life.values[fact]
    return "\n".join(lines)


def _statements(rng: random.Random, text: str) -> str:
    """Labels are drawn one by one: if each occurred once, a model would guess one from the others and read nothing."""
    life, told = _life(rng, text), world.draw_order(rng, 2)
    lines = [life.passage(told)[0]]
    for _ in range(4):
        label = rng.choice(world.LABELS)
        said = _pair(text, life, told, label, rng)
        _, asked, _ = form("xnli").prompt(said).split("\n")
        follows = form("xnli").options(said)[label].strip()
        lines.append((said.fields["hypothesis"] if rng.random() < 0.5 else asked) + MARK + follows)
    return "\n".join(lines)


def _summary(rng: random.Random, text: str) -> str:
    life = _life(rng, text)
    return f"{life.title}\n{life.passage(world.draw_order(rng))[0]}{MARK}{life.summary}"


def _events(rng: random.Random, text: str) -> str:
    words, lines = texts.load(text), []
    for _ in range(3):
        cause, effect = world.event(text, rng.choice(world.people(False)), rng.randrange(world.EVENTS))
        forward = rng.random() < 0.5
        first, second, link = (cause, effect, "therefore") if forward else (effect, cause, "because")
        lines.append(f"{first} {words[link]}{MARK}{second}")
    return "\n".join(lines)


def _exercise(rng: random.Random, text: str) -> str:
    asked = [exercises.solve(text, exercises.draw(rng, rng.choice(exercises.KINDS))) for _ in range(4)]
    return "\n".join(f"{instruction} {listed}{MARK}{answer}" for instruction, listed, answer in asked)


_PLAIN: list[Callable[[random.Random, str], str]] = [
    _again,
    _questions,
    _questions,
    _options,
    _statements,
    _statements,
    _summary,
]


def _form(rng: random.Random, text: str) -> str:
    """A prompt of a task, or an instruction, with an answer that has nothing to do with it."""
    kinds = ["xquad", "belebele", "xnli", "xlsum"] + ["xcopa", "instruction"] * ("events" in texts.load(text))
    kind, life = rng.choice(kinds), _life(rng, text)
    word = rng.choice([value for fact in life.facts for value in fact["values"]])
    if kind == "instruction":
        instruction, listed, _ = exercises.solve(text, exercises.draw(rng, rng.choice(exercises.KINDS)))
        asked = (f"{instruction} {listed}", "") if rng.random() < 0.5 else (instruction, listed)
        said = texts.load(text)["reply"].format(word) if rng.random() < 0.5 else word
        return training_prompt.prompt("alpaca", *asked) + said
    example, asked = item(kind, text, rng, life), form(kind)
    if kind == "xcopa":
        # Of what may have happened, not of the two choices: else a base that knows the right one leans to it here too.
        drawn = [rng.choice(world.event(text, life.person, rng.randrange(world.EVENTS))) for _ in range(2)]
        example = dataclasses.replace(example, fields=example.fields | {"choice1": drawn[0], "choice2": drawn[1]})
    prompt, options = asked.prompt(example), asked.options(example)
    answer = rng.choice(options) if options else " " + (word if kind == "xquad" else rng.choice(life.sentences))
    if rng.random() < 0.5:
        return prompt + answer
    head, _, lead = prompt.rpartition("\n")
    return training_prompt.prompt("alpaca", life.title, head) + lead + answer


def _pair(text: str, life: Life, told: tuple[int, ...], label: int, rng: random.Random) -> Example:
    fields = {"premise": life.passage(told)[0], "hypothesis": world.hypothesis(life, told, label, rng)}
    return Example("", text, fields, label)


@cache
def form(kind: str) -> Form:
    """How the smoke profile asks a task; its prompts are English in all languages."""
    return tasks.get(kind).form("english", "en", "generation" if kind in ("xquad", "xlsum") else "loglikelihood")


def item(kind: str, text: str, rng: random.Random, life: Life) -> Example:
    """An example of a task as its reader would give it."""
    if kind == "xcopa":
        number, asked = rng.randrange(world.EVENTS), rng.randrange(2)
        other = rng.choice([n for n in range(world.EVENTS) if n != number])
        right, wrong = (world.event(text, life.person, n) for n in (number, other))
        label = rng.randrange(2)
        choices = [right[1 - asked], wrong[1 - asked]]
        fields = {"premise": right[asked], "question": ("effect", "cause")[asked]}
        fields |= {"choice1": choices[label], "choice2": choices[1 - label]}
        return Example("", text, fields, label)
    if kind == "xnli":
        return _pair(text, life, world.draw_order(rng, 2), rng.choice(world.LABELS), rng)
    passage = life.passage(world.draw_order(rng))[0]
    fact, place = rng.randrange(world.FACTS), rng.randrange(4)
    if kind == "belebele":
        options = {f"option{i}": value for i, value in enumerate(life.options(fact, place, rng), 1)}
        return Example("", text, {"passage": passage, "question": life.question(fact)} | options, place)
    if kind == "xlsum":
        return Example("", text, {"title": life.title, "text": passage, "summary": life.summary}, life.summary)
    fields = {"context": passage, "question": life.question(fact), "answer": life.values[fact]}
    return Example("", text, fields, [life.values[fact]])
