"""Sources: small in memory, large on disk without a name, never over the limit."""

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SourceTooLargeError, StorageUnavailableError
from gateway.source import Source, spool


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # Path.iterdir holds one open itself


@given(st.lists(st.binary(max_size=64), max_size=20), st.integers(1, 200))
async def test_what_went_in_comes_out(chunks: list[bytes], memory_bytes_max: int) -> None:
    whole = b"".join(chunks)
    with await spool(chunked(*chunks), 10_000, memory_bytes_max=memory_bytes_max) as source:
        assert source.read() == source.read() == whole
        assert source.size_bytes == len(whole)
        assert source.is_spooled == (len(whole) > memory_bytes_max)


async def test_a_large_source_is_on_disk_and_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = await spool(chunked(*[b"x" * 100_000] * 30), 4_000_000)
    assert source.is_spooled
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  # an empty folder
    source.close()


async def test_a_source_is_read_by_many_threads_at_once() -> None:
    whole = os.urandom(3_000_000)
    with await spool(chunked(whole), 4_000_000) as source, ThreadPoolExecutor(8) as threads:
        for copy in threads.map(lambda _: source.read(), range(16)):
            assert copy == whole


async def test_one_byte_over_the_limit_is_refused_and_freed() -> None:
    before = open_files()
    with pytest.raises(SourceTooLargeError) as caught:
        await spool(chunked(b"x" * 50, b"x" * 51), 100, memory_bytes_max=10)
    assert caught.value.bytes_max == 100
    assert open_files() == before
    assert (await spool(chunked(b"x" * 50, b"x" * 50), 100)).size_bytes == 100


async def test_closing_frees_the_disk_once_and_again() -> None:
    before = open_files()
    source = await spool(chunked(b"x" * 1000), 2000, memory_bytes_max=10)
    assert open_files() == before + 1
    source.close()
    source.close()
    assert open_files() == before


async def test_a_stream_that_breaks_leaves_no_file_behind() -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ConnectionError

    before = open_files()
    with pytest.raises(ConnectionError):
        await spool(breaking(), 2000, memory_bytes_max=10)
    assert open_files() == before


async def test_a_full_disk_is_our_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: ASYNC230, SIM115  # closed by spool
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
    with pytest.raises(StorageUnavailableError):
        await spool(chunked(b"x" * 1000), 2000, memory_bytes_max=10)
    assert full.closed


def test_bytes_at_hand_are_a_source_too() -> None:
    source = Source(b"abc")
    assert (source.size_bytes, source.read(), source.is_spooled) == (3, b"abc", False)
