"""AlpacaEval 2's length-controlled win rate, by the alpaca_eval package's regression.

The package fits preference on the answers' difference in length and predicts it at equal length (Dubois et al. 2024).
It is anchored to two models that answer at unusual length, whose judgements (df_gamed.csv, AlpacaEval's repository on
the Hub) are of AlpacaEval 2's judge and reference; so there is none for AlpacaEval 1 or the stand-in.
"""

from typing import Any

from maple.config import catalogue
from maple.judging.judgements import Pair

ANNOTATOR, REFERENCE = "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview"


def applies(annotator: str, reference: str) -> bool:
    return (annotator, reference) == (ANNOTATOR, REFERENCE)


def length_controlled(pairs: list[Pair], found: dict[str, float | None]) -> dict[str, float] | str:
    """{"winrate", "standard_error"}, 0..1, or the reason why there is none."""
    judged = [pair for pair in pairs if found[pair.id] is not None]
    if len({len(pair.output) - len(pair.reference) for pair in judged}) < 2:
        return "all judged answers differ by the same length from their reference, so length explains nothing"
    from alpaca_eval.metrics import glm_winrate
    from huggingface_hub import errors, hf_hub_download

    def pinned(**options: Any) -> str:
        return hf_hub_download(**options, revision=catalogue.datasets()["alpaca_eval"].revision)

    rows = [
        {
            "index": int(pair.id),
            "instruction": pair.instruction,
            "output_1": pair.reference,
            "output_2": pair.output,
            "generator_1": REFERENCE,
            "generator_2": "ours",
            "preference": 1 + found[pair.id],
        }
        for pair in judged
    ]
    # The package asks for the newest revision.
    glm_winrate.hf_hub_download = pinned
    try:
        metrics = glm_winrate.get_length_controlled_winrate(rows, save_weights_dir=None)
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        ConnectionError,
    ) as error:
        return f"df_gamed.csv could not be fetched: {error}"
    return {
        "winrate": float(metrics["length_controlled_winrate"]) / 100,
        "standard_error": float(metrics["lc_standard_error"]) / 100,
    }
