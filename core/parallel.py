"""Sharing one picture's work between threads, as many as the caller allows."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from operator import call
from typing import TypeVar

import cv2

Result = TypeVar("Result")
Other = TypeVar("Other")


@cache
def keep_opencv_to_one_thread() -> None:
    """Tell OpenCV, once in a process; it would share its loops among all cores, however busy."""
    cv2.setNumThreads(1)


def at_once(works: Iterable[Callable[[], Result]], threads: int) -> list[Result]:
    """Do all `works`, up to `threads` at a time; return their results in order.

    Raises:
        Exception: what the first of them, in order, raised; what was not begun by then is left.
    """
    waiting = list(works)
    if threads == 1 or len(waiting) == 1:
        return [work() for work in waiting]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, waiting))


def beside(
    main: Callable[[], Result], other: Callable[[], Other], threads: int
) -> tuple[Result, Other]:
    """Do `other` while `main` runs, or after it where there is one thread only.

    `main` may share its own work out: `other` is then one more for as long as it takes, and short.

    Raises:
        Exception: what `main` raised, else what `other` did.
    """
    if threads == 1:
        return main(), other()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other)
        return main(), waiting.result()
