"""A picture's bytes on their way in: small ones in memory, larger ones on disk.

The file behind a spooled source has no name, so that a crash leaves nothing to clean up.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import IO, Self

from gateway.errors import SourceTooLargeError, StorageUnavailableError

MEMORY_BYTES_MAX = 2**20


class Source:
    """The bytes of one upload or download. Reading does not consume it; closing frees it."""

    __slots__ = ("_content", "_file", "size_bytes")

    def __init__(
        self, content: bytes, *, file: IO[bytes] | None = None, size_bytes: int = 0
    ) -> None:
        self._content = content
        self._file = file
        self.size_bytes = size_bytes if file else len(content)

    @property
    def is_spooled(self) -> bool:
        return self._file is not None

    def read(self) -> bytes:
        """Give all bytes; safe from several threads, since no file position is shared."""
        if self._file is None:
            return self._content
        return os.pread(self._file.fileno(), self.size_bytes, 0)

    def close(self) -> None:
        """Free the memory or the disk; harmless when repeated."""
        self._content = b""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


async def spool(
    stream: AsyncIterable[bytes], bytes_max: int, *, memory_bytes_max: int = MEMORY_BYTES_MAX
) -> Source:
    """Take `stream` in, onto disk once it is longer than `memory_bytes_max`.

    Raises:
        SourceTooLargeError: more than `bytes_max` came; what was taken in is freed.
        StorageUnavailableError: the disk is full.
    """
    buffer = bytearray()
    file: IO[bytes] | None = None
    size_bytes = 0
    try:
        async for chunk in _within(stream, bytes_max):
            size_bytes += len(chunk)
            buffer += chunk
            if len(buffer) > memory_bytes_max:
                file = file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # Source owns it
                await asyncio.to_thread(_write_all, file, bytes(buffer))
                buffer.clear()
        if file is None:
            return Source(bytes(buffer))
        await asyncio.to_thread(_write_all, file, bytes(buffer))
    except BaseException:
        if file is not None:
            file.close()
        raise
    return Source(b"", file=file, size_bytes=size_bytes)


async def _within(stream: AsyncIterable[bytes], bytes_max: int) -> AsyncIterator[bytes]:
    size_bytes = 0
    async for chunk in stream:
        size_bytes += len(chunk)
        if size_bytes > bytes_max:
            raise SourceTooLargeError(bytes_max)
        yield chunk


def _write_all(file: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as exc:  # a full disk is our trouble, not the picture's
        raise StorageUnavailableError from exc
