"""Plain text of all smoke languages: what the tiny models read before any finetuning.

Sentences, and lists of words said twice (so that a model learns to look back), but no instruction and no sentence
of an evaluation item: finetuning must have something left to teach.
"""

import random

from maple.smoke import texts


def documents(count: int, seed: int = 0) -> list[str]:
    """`count` short texts, the languages in turn, a third of them sentences and the rest lists."""
    rng = random.Random(seed)
    codes = texts.languages_with("plain")
    found = []
    for number in range(count):
        text = texts.load(codes[number % len(codes)])
        if "exercises" not in text or rng.random() < 1 / 3:
            found.append(text["story"]["gap"].join(rng.sample(text["plain"], 3)))
        else:
            found.append(_list_said_twice(rng, text))
    return found


def _list_said_twice(rng: random.Random, text: dict) -> str:
    """Words of one kind of list, numerals or number words: `red, milk, cat. red, milk, cat.`"""
    words = text["animals"] + text["colours"] + text["foods"]
    pairs = [word for kind in ("opposites", "capitals") for pair in text[kind].items() for word in pair]
    pool = rng.choice([words, pairs, text["numbers"], [str(number) for number in range(1, 120)]])
    said = text["comma"].join(rng.sample(pool, rng.randrange(3, 7))) + text["stop"]
    return said + text["story"]["gap"] + said


def tokeniser_texts() -> list[str]:
    """What the tokeniser learns its merges from: every text of every language, and Alpaca's prompt.

    Instructions count several times, as they come in many rows.
    """
    from maple.smoke import instructions

    prompts = [instructions.WITH_INPUT, instructions.WITHOUT_INPUT] * 50
    rows = [
        field
        for code in texts.languages_with("exercises")
        for seed in instructions.draws("alpaca", 60)
        for field in instructions.solve(code, seed)
    ]
    names = [path.stem for path in sorted(texts.FOLDER.glob("*.yaml"))]
    return prompts + rows + [text for name in names for text in _strings(texts.load(name))]


def _strings(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    return [text for child in children for text in _strings(child)]
