"""Made-up answers of the made-up grid, in the scripts of their languages, as evaluate leaves them in score folders."""

from pathlib import Path

import synthetic

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


def write(folder: Path, names: list[str], per_group: int = 2) -> None:
    """examples/ of one score folder per name below `folder`."""
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
                        "scores": {"accuracy": 1.0},
                    }
                    if task in ("xnli", "xcopa", "belebele"):
                        options = [
                            {"text": f"{said} {i}", "logprob": -1.5 - i, "tokens": 3, "bytes": 20} for i in range(3)
                        ]
                        row |= {"options": options, "prediction": 0, "reference": 0}
                    else:
                        row |= {"output": f"{said} {HOSTILE}", "prediction": said}
                    rows.append(row)
                storage.write_jsonl_gz(folder / name / "examples" / f"{task}-{code}.jsonl.gz", rows)
