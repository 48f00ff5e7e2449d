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
        self.sentences = [self._say("sentence", fact) for fact in range(FACTS)]
        self.title = self.text["title"].format(name=self.name)
        self.summary = self.text["summary"].format(*self.values, name=self.name)

    def _say(self, how: str, fact: int) -> str:
        return self.facts[fact][how].format(name=self.name, value=self.values[fact])

    def question(self, fact: int) -> str:
        return self._say("question", fact)

    def paraphrase(self, fact: int) -> str:
        """The fact in other words."""
        return self._say("paraphrase", fact)

    def denial(self, fact: int) -> str:
        """That the fact is not so."""
        return self._say("denial", fact)

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


LABELS = range(3)


def hypothesis(life: Life, told: tuple[int, ...], label: int, rng: random.Random) -> str:
    """A statement about a premise that tells some of the facts; label 0 entailed, 1 neutral, 2 contradicted, as in XNLI.

    A told fact is said in other words or denied; a fact that is not told is said or denied, which no premise decides. As
    in the real set a denial betrays that it is not entailed: without the premise two thirds of the labels can be guessed.

    >>> hypothesis(Life("en", Person(0, 1), (0, 1, 2, 3, 4)), (1,), 2, random.Random(0))
    'Tom Tanaka has no home beside the river.'
    """
    if label == 1:
        fact = rng.choice([fact for fact in range(FACTS) if fact not in told])
        return life.denial(fact) if rng.random() < 0.5 else life.paraphrase(fact)
    fact = rng.choice(told)
    return life.paraphrase(fact) if label == 0 else life.denial(fact)
