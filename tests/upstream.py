"""A few rows of each evaluation source in upstream's exact schema and file names, parallel over languages."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet

# task -> languages that `write` provides.
LANGUAGES = {
    "xnli": ("ar", "en", "th"),
    "xcopa": ("et", "th", "zh"),
    "xquad": ("ar", "en", "zh"),
    "belebele": ("en", "hi", "zh"),
    "mlqa": ("ar", "en", "zh"),
    "xlsum": ("en", "sr", "th", "zh"),
    "alpaca_eval": ("en",),
}
TEXT = {
    "ar": "النهر يجري في الوادي", "en": "The river runs through the valley", "et": "Jõgi voolab orus.",
    "hi": "नदी घाटी में बहती है।", "sr": "Река тече кроз долину.", "th": "แม่น้ำไหลผ่านหุบเขา", "zh": "河流穿过山谷。",
}  # fmt: skip
FLORES = {"en": ["eng_Latn"], "hi": ["hin_Deva", "hin_Latn"], "zh": ["zho_Hans", "zho_Hant"]}
XLSUM = {
    "en": ["english"],
    "sr": ["serbian_cyrillic", "serbian_latin"],
    "th": ["thai"],
    "zh": ["chinese_simplified", "chinese_traditional"],
}


def write(root: Path, rows: int = 12) -> Path:
    """All sources under `root`/<task>; every option is right equally often."""
    for task, found in _FILES.items():
        for path, content in found(rows):
            write_file(root / task / path, content)
    return root


def write_file(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def _xnli(rows):
    for code in LANGUAGES["xnli"]:
        for split in ("train", "validation", "test"):
            content = [{"premise": f"{TEXT[code]} {i}", "hypothesis": TEXT[code], "label": i % 3} for i in range(rows)]
            yield f"{code}/{split}-00000-of-00001.parquet", content


def _xcopa(rows):
    for code in LANGUAGES["xcopa"]:
        for split in ("validation", "test"):
            content = [
                {
                    "premise": TEXT[code],
                    "choice1": f"{TEXT[code]} 1",
                    "choice2": f"{TEXT[code]} 2",
                    # Upstream's Thai file says "effect" on many rows that are causes.
                    "question": "effect" if code == "th" or i % 4 < 2 else "cause",
                    "label": i % 2,
                    "idx": i,
                    "changed": False,
                }
                for i in range(rows)
            ]
            yield f"{code}/{split}-00000-of-00001.parquet", content


def _questions(code, rows, **extra):
    answer = TEXT[code].split()[-1]
    return [
        {
            "id": f"q{i}",
            **extra,
            "context": f"{i} {TEXT[code]}",
            "question": f"{TEXT[code]}?",
            "answers": {"text": [answer], "answer_start": [f"{i} {TEXT[code]}".rindex(answer)]},
        }
        for i in range(rows)
    ]


def _xquad(rows):
    for code in LANGUAGES["xquad"]:
        yield f"xquad.{code}/validation-00000-of-00001.parquet", _questions(code, rows)


def _mlqa(rows):
    for code in LANGUAGES["mlqa"]:
        for split in ("validation", "test"):
            yield f"MLQA.{code}.{code}/{split}-00000-of-00001.parquet", _questions(code, rows, title="River")


def _belebele(rows):
    for code in LANGUAGES["belebele"]:
        for name in FLORES[code]:
            content = [
                {
                    "link": f"https://example.org/{i // 2}",
                    "question_number": 1 + i % 2,
                    "flores_passage": TEXT[code],
                    "question": f"{TEXT[code]}? ",
                    **{f"mc_answer{k}": f"{TEXT[code]} {k}" for k in (1, 2, 3, 4)},
                    "correct_answer_num": str(1 + i % 4),
                    "dialect": name,
                    "ds": "2023-05-03",
                }
                for i in range(rows)
            ]
            yield f"data/{name}.jsonl", content


def _xlsum(rows):
    for code in LANGUAGES["xlsum"]:
        for name in XLSUM[code]:
            for split in ("train", "validation", "test"):
                content = [
                    {
                        "id": str(i),
                        "url": "",
                        "title": TEXT[code],
                        "summary": f"{TEXT[code]} {i}",
                        "text": TEXT[code] * 3,
                    }
                    for i in range(rows)
                ]
                yield f"{name}/{split}/0000.parquet", content


def _alpaca_eval(rows):
    for file, generator in (
        ("alpaca_eval.json", "text_davinci_003"),
        ("alpaca_eval_gpt4_baseline.json", "gpt4_1106_preview"),
    ):
        content = [
            {"instruction": f"Name {i} rivers {{x}}.", "output": "Nile", "generator": generator, "dataset": "koala"}
            for i in range(rows)
        ]
        yield file, content


_FILES = {
    "xnli": _xnli,
    "xcopa": _xcopa,
    "xquad": _xquad,
    "belebele": _belebele,
    "mlqa": _mlqa,
    "xlsum": _xlsum,
    "alpaca_eval": _alpaca_eval,
}
