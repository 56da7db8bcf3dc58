"""Work that is shared out comes back in order, and whole."""

import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from core.parallel import at_once, beside


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_work(threads: int) -> None:
    def late(number: int) -> int:
        time.sleep(0.01 * (4 - number))
        return number

    assert at_once([partial(late, n) for n in range(4)], threads) == [0, 1, 2, 3]


def test_no_more_threads_work_than_are_allowed() -> None:
    at_work: set[int] = set()
    most = []
    lock = threading.Lock()

    def work(number: int) -> None:
        with lock:
            at_work.add(number)
            most.append(len(at_work))
        time.sleep(0.005)
        with lock:
            at_work.remove(number)

    at_once([partial(work, n) for n in range(12)], 3)
    assert max(most) <= 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_is_the_caller_s(threads: int) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        at_once([time.monotonic, fail], threads)
    with pytest.raises(ValueError, match="broken"):
        beside(time.monotonic, fail, threads)
    with pytest.raises(ValueError, match="broken"):
        beside(fail, time.monotonic, threads)


def test_what_waits_when_one_thing_fails_is_left() -> None:
    begun = []

    def fail() -> None:
        raise ValueError("broken")

    def work() -> None:
        begun.append(1)
        time.sleep(0.005)

    with pytest.raises(ValueError, match="broken"):
        at_once([fail, *[work] * 200], 2)
    assert len(begun) < 100


def test_importing_core_leaves_opencv_alone_and_loading_weights_does_not() -> None:
    program = """
import cv2
cv2.setNumThreads(3)
import core
print(cv2.getNumThreads())
core.load_segmenter("cutout-lite", None)
print(cv2.getNumThreads())
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.split() == [b"3", b"1"]


def test_what_runs_beside_runs_meanwhile() -> None:
    met = threading.Barrier(2, timeout=10)

    assert sorted(beside(met.wait, met.wait, threads=2)) == [0, 1]


def test_with_one_thread_one_thing_is_done_after_the_other() -> None:
    done: list[str] = []

    beside(lambda: done.append("main"), lambda: done.append("other"), threads=1)

    assert done == ["main", "other"]
