"""The same function over many items in several processes, results in the items' order, few in memory at a time."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from maple.core.errors import MapleError


def in_order(
    function: Callable, items: Iterable, processes: int, setup: Callable | None = None, *values: Any
) -> Iterator:
    """`function(item)` for each item. `setup(*values)` runs once in each process before its first item.

    Items are drawn only as results are taken, so an endless iterator is fine. With one process all happens here.
    """
    if processes == 1:
        if setup:
            setup(*values)
        yield from map(function, items)
        return
    # spawn: a fork would copy locks of threads that tokenisers and Arrow hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=setup, initargs=values) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise MapleError(
                "a process ended without a word",
                why="most likely the system killed it for memory",
                do="lower prepare.processes",
            ) from error
        finally:
            for future in waiting:
                future.cancel()
