"""What is measured of the rows while they are tokenised: lengths, truncation, fertility, scripts, three examples."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maple.preparation import scripts
from maple.preparation.instructions import Instruction
from maple.preparation.tokenise import Tokens

EXAMPLES = 3
# Lengths are counted one by one up to here; longer rows as this long.
LONGEST = 16384
COUNTS = (
    "rows",
    "cut_away",
    "truncated",
    "truncated_tokens",
    "spans",
    "tokens",
    "answer_tokens",
    "characters",
    "words",
)


@dataclass(frozen=True)
class Measured:
    """Of one batch: letters per script, outputs in another script, and per model COUNTS and the full lengths."""

    letters: np.ndarray
    foreign_outputs: int
    models: dict[str, tuple[np.ndarray, np.ndarray]]
    examples: list[dict[str, Any]]


def measure(
    language: str, rows: list[Instruction], parts: list[int], tokens: dict[str, list[Tokens]], backends
) -> Measured:
    answers = [scripts.counts(row.output) for row in rows]
    letters = sum(answers) + scripts.counts("".join(row.instruction + row.input for row in rows))
    unspaced = scripts.is_unspaced(language)
    models = {}
    for model, found in tokens.items():
        kept = [t for t in found if t.ids is not None]
        whole = [(row, t) for row, t in zip(rows, found) if row.output]
        counts = [
            len(kept),
            len(found) - len(kept),
            sum(len(t.ids) < t.full for t in kept),
            sum(t.full - len(t.ids) for t in kept),
            sum(t.spans for t in found),
            sum(len(t.ids) for t in kept),
            sum(t.answer for _, t in whole),
            sum(len(row.output) for row, _ in whole),
            0 if unspaced else sum(len(row.output.split()) for row, _ in whole),
        ]
        models[model] = np.array(counts, dtype=np.int64), np.array([t.full for t in found], dtype=np.int32)
    foreign = sum(bool(scripts.is_foreign(answer, language)) for answer in answers)
    return Measured(letters, foreign, models, _examples(rows, parts, tokens, backends))


def _examples(
    rows: list[Instruction], parts: list[int], tokens: dict[str, list[Tokens]], backends
) -> list[dict[str, Any]]:
    """The first training rows, as text made from the ids that the first model gets."""
    model = next(iter(tokens))
    chosen = [i for i, part in enumerate(parts) if part == 1 and tokens[model][i].ids is not None][:EXAMPLES]
    return [
        {
            "id": rows[i].id,
            "row": rows[i].row,
            "model": model,
            "tokens": len(tokens[model][i].ids),
            "prompt": backends[model].decode(
                tokens[model][i].ids[: tokens[model][i].answer_start].tolist(), skip_special_tokens=False
            ),
            "answer": backends[model].decode(
                tokens[model][i].ids[tokens[model][i].answer_start :].tolist(), skip_special_tokens=False
            ),
        }
        for i in chosen
    ]


@dataclass
class _Language:
    letters: np.ndarray = field(default_factory=lambda: np.zeros(len(scripts.CODES), dtype=np.int64))
    foreign_outputs: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    lengths: dict[str, np.ndarray] = field(default_factory=dict)


class Totals:
    """Sums over batches, by language."""

    def __init__(self, max_length: int):
        self.max_length = max_length
        self.languages: dict[str, _Language] = {}
        self.examples: dict[str, list[dict[str, Any]]] = {}

    def add(self, measured: Measured, batch) -> None:
        one = self.languages.setdefault(batch.language, _Language())
        one.letters += measured.letters
        one.foreign_outputs += measured.foreign_outputs
        for model, (counts, lengths) in measured.models.items():
            histogram = np.bincount(np.minimum(lengths, LONGEST), minlength=LONGEST + 1)
            one.counts[model] = one.counts.get(model, 0) + counts
            one.lengths[model] = one.lengths.get(model, 0) + histogram
        examples = self.examples.setdefault(batch.language, [])
        examples += measured.examples[: EXAMPLES - len(examples)]

    def scripts(self, code: str) -> dict[str, float]:
        """Share of letters per script, of all text; scripts below a thousandth are left out."""
        if code not in self.languages or not (total := int(self.languages[code].letters.sum())):
            return {}
        shares = {name: int(n) / total for name, n in zip(scripts.CODES, self.languages[code].letters)}
        return {
            name: round(share, 4) for name, share in sorted(shares.items(), key=lambda pair: -pair[1]) if share >= 0.001
        }

    def models(self, code: str | None) -> dict[str, dict[str, Any]]:
        """Model -> counts, percentiles of full lengths, and fertility, of one language or (None) of all."""
        some = [one for name, one in self.languages.items() if code in (None, name)]
        result = {}
        for model in some[0].counts if some else ():
            counts = dict(zip(COUNTS, (int(n) for n in sum(one.counts[model] for one in some))))
            characters, words = counts.pop("characters"), counts.pop("words")
            lengths = np.cumsum(sum(one.lengths[model] for one in some))
            result[model] = counts | {
                "length_percentiles": {
                    str(p): int(np.searchsorted(lengths, p / 100 * lengths[-1])) for p in (50, 90, 99, 100)
                },
                "answer_tokens_per_character": round(counts["answer_tokens"] / characters, 4) if characters else None,
                "answer_tokens_per_word": round(counts["answer_tokens"] / words, 4) if words and code else None,
            }
        return result
