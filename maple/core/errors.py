"""The one exception the stages show to a person: what happened, why, and what to do."""

import difflib
import re
from collections.abc import Iterable

# What libraries say where memory ends: torch on a CPU and on a card, oneDNN, C++, Arrow, the system (errno 12), the loader
# of libraries, and those that find no room for a thread's stack.
_NO_MEMORY = re.compile(
    "DefaultCPUAllocator|out of memory|bad_alloc|can(no|')t allocate memory|malloc of size|failed to map segment|"
    "can't start new thread|failed to launch worker thread|could not create a primitive",
    re.IGNORECASE,
)


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error only says that memory ended; of a file that was being read it says nothing.

    >>> is_out_of_memory(OSError(12, "Cannot allocate memory")), is_out_of_memory(OSError(5, "Input/output error"))
    (True, False)
    """
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))
