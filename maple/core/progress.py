"""Progress on stderr: a bar with the time left on a terminal, else a plain line at most every 30 seconds.

    with Progress(total=120, label="answer xnli", unit="rows") as bar:
        bar.advance(8, "ar")

Our own and not tqdm's: tqdm redraws its bar where there is no terminal too, and a log wants a sentence every 30
seconds.
"""

import sys
import time
from typing import TextIO

LINE_SECONDS = 30
BAR_SECONDS = 0.2
_WIDTH = 24


class Progress:
    """Counts `unit`s up to `total` (None: unknown). `advance` is cheap enough to call for every row."""

    def __init__(
        self, total: float | None, label: str, unit: str = "", stream: TextIO | None = None, clock=time.monotonic
    ):
        self.total, self.label, self.unit = total, label, unit
        self.done: float = 0
        self._note = ""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._started = self._shown = clock()
        self._first = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *failure) -> None:
        """The last line says how much was done in what time; on a terminal the bar is left standing."""
        if self._terminal:
            self._show("\r", "\n")
        elif self._clock() - self._started >= LINE_SECONDS:
            self._show("", "\n")

    def start_at(self, done: float) -> None:
        """Begin from work that an earlier run finished; it does not count for the speed."""
        self.done = self._first = done

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        self._note = note or self._note
        now = self._clock()
        if now - self._shown >= (BAR_SECONDS if self._terminal else LINE_SECONDS):
            self._shown = now
            self._show("\r", "") if self._terminal else self._show("", "\n")

    def line(self) -> str:
        """`label 12 of 120 rows (10 %), 30 s left, note`."""
        passed = self._clock() - self._started
        made = self.done - self._first
        parts = [f"{self.label} {self._amount(self.done)}"]
        if self.total:
            parts[0] += f" of {self._amount(self.total)}"
        parts[0] += f" {self.unit}" if self.unit and self.unit != "bytes" else ""
        if self.total:
            parts[0] += f" ({100 * self.done / self.total:.0f} %)"
        if self.total and made and self.done < self.total:
            parts.append(f"{duration(passed / made * (self.total - self.done))} left")
        else:
            parts.append(duration(passed))
        return ", ".join(parts + [self._note] * bool(self._note))

    def _show(self, before: str, after: str) -> None:
        text = self.line()
        if self._terminal and self.total:
            filled = int(_WIDTH * min(self.done / self.total, 1))
            text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {text}"
        clear = "\033[K" if self._terminal else ""
        self._stream.write(before + text + clear + after)
        self._stream.flush()

    def _amount(self, value: float) -> str:
        return size(value) if self.unit == "bytes" else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(150), duration(7500)
    ('42 s', '2 min 30 s', '2 h 05 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(count: float) -> str:
    """
    >>> size(512), size(3_691_555), size(13_476_831_232)
    ('512 B', '3.7 MB', '13.5 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"
