"""How the C library keeps the memory that pictures are worked on in.

Left alone, glibc gives a few megabytes back to the kernel after almost every step, and the next
step waits while it gets them again, page by page: at 1 megapixel a fifth of all work beside the
network. So a process that cuts out keeps what is small, and gives back at once what is large.
"""

import ctypes
from functools import cache
from typing import Final

TRIM_THRESHOLD: Final = -1
MMAP_THRESHOLD: Final = -3
"""Names of glibc's `mallopt`."""
KEPT_BYTES: Final = 64 * 2**20
"""So much freed memory stays with each of the library's arenas."""
LARGE_BYTES: Final = 8 * 2**20
"""Larger blocks come from the kernel and go back to it when freed: pictures past 2 megapixels."""


@cache
def keep_small_blocks() -> bool:
    """Tell the C library, once in a process; say whether it listened (only glibc does)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES) and mallopt(MMAP_THRESHOLD, LARGE_BYTES))
