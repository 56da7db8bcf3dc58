"""Sharing one picture's work between threads, as many as the caller allows and no more."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

Result = TypeVar("Result")
Other = TypeVar("Other")

# OpenCV would share its own loops among all cores, whoever else is at work on them.
cv2.setNumThreads(1)


def at_once(works: Iterable[Callable[[], Result]], threads: int) -> list[Result]:
    """Do all `works`, up to `threads` at a time; return their results in order.

    Raises:
        Exception: what the first of them that failed raised.
    """
    waiting = list(works)
    if threads == 1 or len(waiting) == 1:
        return [work() for work in waiting]
    with ThreadPoolExecutor(threads) as pool:
        return [each.result() for each in [pool.submit(work) for work in waiting]]


def beside(
    main: Callable[[], Result], other: Callable[[], Other], threads: int
) -> tuple[Result, Other]:
    """Do `other` while `main` runs, or after it where there is one thread only."""
    if threads == 1:
        return main(), other()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other)
        return main(), waiting.result()
