"""Made-up answers of the made-up grid, in the scripts of their languages, as answer and score leave them in their
folders.
"""

import synthetic

from maple.config.params import Params
from maple.core import storage

# What a hostile or merely odd model may answer.
HOSTILE = "</script><script>document.title='broken'</script> & <b>x</b> \u2028 end"
SPOKEN = {
    "ar": "الجواب هو باريس",
    "he": "התשובה היא פריז",
    "hi": "उत्तर पेरिस है",
    "th": "คำตอบคือปารีส",
    "ja": "答えはパリです",
    "ru": "Ответ: Париж",
    "en": "The answer is Paris",
}


def write(params: Params, names: list[str], per_group: int = 2) -> None:
    """The answer and the score folder of each name."""
    for name in names:
        for task in synthetic.TASKS:
            for code in synthetic.task_languages(task):
                said = SPOKEN.get(code, SPOKEN["en"])
                rows = []
                for place in range(per_group):
                    row = {
                        "id": f"{task}-{place:05}",
                        "prompt": f"{said}? " * 40,
                        "reference": said,
                    }
                    score = {"id": row["id"], "scores": {"accuracy": 1.0}}
                    if task in ("xnli", "xcopa", "belebele"):
                        options = [
                            {"text": f"{said} {i}", "logprob": -1.5 - i, "tokens": 3, "bytes": 20} for i in range(3)
                        ]
                        row |= {"options": options, "reference": 0}
                        score["prediction"] = 0
                    else:
                        row["output"] = f"{said} {HOSTILE}"
                        score["prediction"] = said
                    rows.append((row, score))
                for kind, written in zip(("answers", "scores"), zip(*rows, strict=True), strict=True):
                    storage.write_jsonl_gz(params.folder(kind, name) / f"{task}-{code}.jsonl.gz", written)
