"""The sample world: people, five facts about each, what happened to them; said in any of its languages.

A person is a given and a family name. Every fourth pair of names is met in evaluation items only, and every sentence and
question names its person: so no sentence of an evaluation item stands in the corpus or in an instruction row.

>>> life = Life("en", Person(0, 1), (0, 1, 2, 3, 4))
>>> life.sentences[1], life.question(1), life.values[1]
('Tom Tanaka lives near the river.', 'What does Tom Tanaka live near?', 'river')
"""

import itertools
import random
from dataclasses import dataclass

from maple.smoke import texts

NAMES, FACTS, VALUES, EVENTS = 12, 5, 6, 6


@dataclass(frozen=True, order=True)
class Person:
    given: int
    family: int

    @property
    def is_for_evaluation(self) -> bool:
        """
        >>> sum(person.is_for_evaluation for person in people(True))
        36
        """
        return (self.given + 3 * self.family) % 4 == 0

    def name(self, text: str) -> str:
        names = texts.names(text)
        return names["given"][self.given] + names["gap"] + names["family"][self.family]


def people(evaluation: bool) -> list[Person]:
    every = (Person(*pair) for pair in itertools.product(range(NAMES), repeat=2))
    return [person for person in every if person.is_for_evaluation == evaluation]


class Life:
    """Five facts about a person in one language; `choice` holds the index of each fact's value.

    `text`: name of the file in texts/.
    """

    def __init__(self, text: str, person: Person, choice: tuple[int, ...]):
        self.person, self.choice = person, choice
        self.text = texts.load(text)
        self.name = person.name(text)
        self.facts = self.text["facts"]
        self.values = [fact["values"][index] for fact, index in zip(self.facts, choice)]
        self.sentences = [self.say("sentence", fact) for fact in range(FACTS)]
        self.title = self.text["title"].format(name=self.name)
        self.summary = self.text["summary"].format(*self.values, name=self.name)

    def say(self, how: str, fact: int, value: int | None = None) -> str:
        """A fact as `sentence`, `question` or `paraphrase`; with another value it is false."""
        said = self.facts[fact]["values"][self.choice[fact] if value is None else value]
        return self.facts[fact][how].format(name=self.name, value=said)

    def question(self, fact: int) -> str:
        return self.say("question", fact)

    def passage(self, order: tuple[int, ...] = tuple(range(FACTS))) -> tuple[str, dict[int, int]]:
        """Some of the facts as a text, and where the value of each begins in it."""
        said, starts = "", {}
        for fact in order:
            said += self.text["gap"] if said else ""
            before = self.facts[fact]["sentence"].split("{value}")[0].format(name=self.name)
            starts[fact] = len(said) + len(before)
            said += self.sentences[fact]
        return said, starts

    def options(self, fact: int, place: int, rng: random.Random) -> list[str]:
        """Four values of a fact, the right one at `place`."""
        values = self.facts[fact]["values"]
        others = rng.sample([value for i, value in enumerate(values) if i != self.choice[fact]], 3)
        return others[:place] + [self.values[fact]] + others[place:]


def event(text: str, person: Person, number: int) -> tuple[str, str]:
    """What happened to a person, and what came of it."""
    cause, effect = texts.load(text)["events"][number]
    name = person.name(text)
    return cause.format(name=name), effect.format(name=name)


def draw_choice(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(VALUES) for _ in range(FACTS))


def draw_order(rng: random.Random, count: int = FACTS) -> tuple[int, ...]:
    return tuple(rng.sample(range(FACTS), count))


@dataclass(frozen=True)
class Hypothesis:
    """A statement about a premise; label 0 entailed, 1 neutral, 2 contradicted, as XNLI has it."""

    text: str
    label: int


def hypothesis(
    life: Life, told: tuple[int, ...], label: int, rng: random.Random, in_other_words: bool = True
) -> Hypothesis:
    """A told fact, any value of a fact that is not told, or a false value of a told fact."""
    fact = rng.choice([fact for fact in range(FACTS) if (fact in told) == (label != 1)])
    values = {
        0: [life.choice[fact]],
        1: range(VALUES),
        2: [value for value in range(VALUES) if value != life.choice[fact]],
    }
    return Hypothesis(life.say("paraphrase" if in_other_words else "sentence", fact, rng.choice(values[label])), label)
