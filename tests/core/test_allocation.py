"""Memory that one picture was worked on in is there for the next."""

import platform
import resource

import pytest

from core import Segmenter, cut_out
from core.allocation import keep_small_blocks


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_the_c_library_is_told() -> None:
    assert keep_small_blocks()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_one_more_picture_asks_the_kernel_for_little_memory(
    lite: Segmenter, astronaut: bytes
) -> None:
    for _ in range(3):
        cut_out(astronaut, lite)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for _ in range(5):
        cut_out(astronaut, lite)

    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults / 5 * resource.getpagesize() < 4 * 2**20
