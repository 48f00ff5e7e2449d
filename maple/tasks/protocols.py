"""Protocols: how models are asked, and by which metric their answers are scored, where the paper says neither.

`default` is what the parameters say task by task. `followup` is what the paper's authors describe in a later paper that
"follows" this one in its evaluation (Aggarwal et al. 2024, arXiv 2410.16168, section 4 and appendix C): indirect evidence,
see docs/DEVIATIONS.md. `evaluation.protocol` chooses how models are asked, `scoring.protocol` how answers are scored.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

DEFAULT = "default"


@dataclass(frozen=True)
class Protocol:
    """What differs from the parameters: keys of `evaluation.tasks.<task>`, and rules of maple/scoring/rules.py."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)


# No shots: lm-evaluation-harness "with default settings". Generation: its scores for XCOPA (0.1 to 0.3) lie below the 0.5
# of guessing, which no choice by log-likelihood gives.
_CHATML = {"prompt_set": "followup", "scoring": "generation", "shots": 0}
PROTOCOLS = {
    DEFAULT: Protocol(),
    "followup": Protocol(
        tasks={
            # Its prompt is not printed: the harness's own task.
            "xnli": {"prompt_set": "harness", "scoring": "loglikelihood", "shots": 0},
            "xcopa": _CHATML,
            "xquad": _CHATML,
            "belebele": _CHATML,
            "mlqa": _CHATML,
            # Its prompt is a picture in the copy at hand; the harness has no such task.
            "xlsum": {"shots": 0},
        },
        rules={"xquad": "f1_abstractive", "mlqa": "f1_abstractive"},
    ),
}


def applied(evaluation: Any) -> Any:
    """`evaluation` (params.Evaluation) with its tasks as its protocol has them."""
    changes = PROTOCOLS[evaluation.protocol].tasks
    tasks = {name: dataclasses.replace(options, **changes.get(name, {})) for name, options in evaluation.tasks.items()}
    return dataclasses.replace(evaluation, tasks=tasks)


def rule_of(task: Any, protocol: str) -> str:
    """The name of the rule that scores a task's answers."""
    return PROTOCOLS[protocol].rules.get(task.name, task.rule)
