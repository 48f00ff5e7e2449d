"""What every figure averages: primary scores over languages, tasks and cells, each with its bootstrap interval."""

from maple.collected import Collected
from maple.resampled import Quantity, Resampled, mean

# The columns of Table 1 in its order; the paper's average leaves AlpacaEval out.
TASKS = ("xnli", "xcopa", "xquad", "belebele", "mlqa", "xlsum")


class Scored:
    """Collected records with their resamples; `confidence` is that of every interval drawn."""

    def __init__(self, collected: Collected, samples: int, seed: int, confidence: float):
        self.collected = collected
        self.confidence = confidence
        self.resampled = Resampled(collected, samples, seed)
        self.tasks = [task for task in TASKS if task in self.resampled.tasks]

    def average(self, name: str, tasks: list[str]) -> Quantity | None:
        """Over tasks, of the mean over each one's languages; None when a task is missing: fewer tasks are another number."""
        found = [self.resampled.score(name, task) for task in tasks]
        return None if not found or None in found else mean(found)

    def ends(self, quantity: Quantity) -> dict[str, float]:
        """value, low and high, as the rows of a figure carry them."""
        return quantity.interval(self.confidence)._asdict()

    def cells(self) -> list[tuple[str, dict]]:
        """(name, record) of the grid's cells that were scored, in the grid's order."""
        records = self.collected.records
        return [(name, records[name]) for name in self.collected.asked if name in records and records[name]["kind"] == "cell"]
