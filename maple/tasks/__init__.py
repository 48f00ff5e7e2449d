"""The tasks by name. A new one is a file beside these, a line here and its prompts; docs/EXTENDING.md shows it."""

from maple.core.errors import MapleError, nearest
from maple.tasks.alpaca_eval import AlpacaEval
from maple.tasks.base import Task
from maple.tasks.belebele import Belebele
from maple.tasks.belebele_order import BelebeleOrder
from maple.tasks.mlqa import Mlqa
from maple.tasks.xcopa import Xcopa
from maple.tasks.xlsum import Xlsum
from maple.tasks.xnli import Xnli
from maple.tasks.xquad import Xquad

TASKS: dict[str, Task] = {
    task.name: task for task in (Xnli(), Xcopa(), Xquad(), Belebele(), Mlqa(), Xlsum(), AlpacaEval())
}

# Put to a base alone (`stages.score --model`), in no table: they ask about a task's files, not about its questions.
QUIZZES: dict[str, Task] = {quiz.name: quiz for quiz in (BelebeleOrder(),)}


def get(name: str) -> Task:
    known = TASKS | QUIZZES
    if name not in known:
        raise MapleError(f"unknown task '{name}'", why="no file of maple/tasks describes it", do=nearest(name, known))
    return known[name]
