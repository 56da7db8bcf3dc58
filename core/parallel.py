"""Sharing one picture's work between threads, as many as the caller allows.

A pool costs more to start and to end than most steps here take, and one that were kept would stand
in the way of a fork: threads are started for the work at hand, and the caller's own takes part.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache
from threading import Thread
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
    promises = [Future[Result]() for _ in waiting]
    left = deque(zip(waiting, promises, strict=True))

    def take_part() -> None:
        while left:
            try:
                work, promise = left.popleft()
            except IndexError:  # another thread was faster
                return
            if not _keep(promise, work):
                left.clear()

    helpers = [Thread(target=take_part) for _ in range(min(threads, len(waiting)) - 1)]
    try:
        for helper in helpers:
            helper.start()
        take_part()
    finally:
        for helper in helpers:
            if helper.ident is not None:
                helper.join()
    try:
        return [promise.result() for promise in promises]  # what was not begun follows a failure
    finally:
        promises.clear()  # an exception must not keep, through its own frames, what it was about


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
    promise: Future[Other] = Future()
    helper = Thread(target=_keep, args=(promise, other))
    helper.start()
    try:
        result = main()
    finally:
        helper.join()
    try:
        return result, promise.result()
    finally:
        del promise  # as above


def _keep(promise: Future[Result], work: Callable[[], Result]) -> bool:
    """Do the work and say how it ended; return whether it did not fail."""
    try:
        promise.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - the caller's thread raises it again
        promise.set_exception(exc)
        return False
    finally:
        del promise, work
    return True
