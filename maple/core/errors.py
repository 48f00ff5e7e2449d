"""The one exception the stages show to a person: what happened, why, and what to do."""

import difflib
from collections.abc import Iterable


class MapleError(Exception):
    """A failure a user can act on; a stage prints it without a traceback and exits with `code`.

    >>> print(MapleError("no row", why="the file is empty", do="download it again"))
    no row
      why: the file is empty
      do:  download it again
    """

    def __init__(self, what: str, why: str, do: str, code: int = 1):
        super().__init__(what, why, do)
        self.what, self.why, self.do, self.code = what, why, do, code

    def __str__(self) -> str:
        return f"{self.what}\n  why: {self.why}\n  do:  {self.do}"


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that names the known word nearest to a wrong one, or lists them all.

    >>> nearest("xcoppa", ["xnli", "xcopa"])
    "did you mean 'xcopa'?"
    """
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
