"""Sources and results by key: a local folder today; obstore speaks S3 by the same calls.

`Storage.from_url` is the one place that knows what kind of store it is. What `put` has returned
from survives a crash of the machine, since a charge is posted right after it.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import LocalStore

from gateway.errors import ResultExpiredError, StorageUnavailableError

KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
KEY_LENGTH_MAX: Final = 200
CHUNK_BYTES: Final = 256 * 1024

log = structlog.get_logger()


class Storage:
    """Objects by key. A missing one is a `ResultExpiredError`, a broken store a 503."""

    def __init__(self, store: LocalStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def from_url(cls, storage_url: str) -> "Storage":
        """Open the store that `storage_url` names: `file:///folder`, which is made if missing.

        Raises:
            ValueError: the URL is of no kind that we know.
            StorageUnavailableError: the folder cannot be made or written to.
        """
        url = urlsplit(storage_url)
        if url.scheme != "file" or url.netloc not in {"", "localhost"} or len(url.path) <= 1:
            raise ValueError("storage_url must be file:///an/absolute/folder")
        folder = Path(unquote(url.path))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise StorageUnavailableError(str(exc)) from exc
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise StorageUnavailableError(f"not writable: {folder}")
        return cls(LocalStore(folder, automatic_cleanup=True), folder)

    async def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, whole or not at all, durably; the last writer wins."""
        with _translated("put", _checked(key), may_be_missing=False):
            await self._store.put_async(key, data)
            await asyncio.to_thread(self._sync, key)

    async def get(self, key: str) -> bytes:
        with _translated("get", _checked(key)):
            return bytes(await (await self._store.get_async(key)).bytes_async())

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Give the object piece by piece; a missing one raises before the first piece."""
        with _translated("get", _checked(key)):
            async for chunk in (await self._store.get_async(key)).stream(CHUNK_BYTES):
                yield bytes(chunk)

    async def exists(self, key: str) -> bool:
        try:
            with _translated("head", _checked(key)):
                await self._store.head_async(key)
        except ResultExpiredError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Forget `key`; harmless when it is not there."""
        try:
            with _translated("delete", _checked(key)):
                await self._store.delete_async(key)
        except ResultExpiredError:
            return

    async def purge(self, prefix: str, before: datetime) -> int:
        """Delete what lies under `prefix/` and was written before `before`; tell how many.

        So go the unfinished files of writers that were killed. What cannot be deleted is passed by.
        """
        count = 0
        with _translated("list", _checked(prefix)):
            await asyncio.to_thread(self._sweep_unfinished, prefix, before.timestamp())
            async for page in self._store.list(prefix):
                for meta in page:
                    if meta["last_modified"] < before:
                        with suppress(StorageUnavailableError):  # it is in the log
                            await self.delete(meta["path"])
                            count += 1
        return count

    def _sweep_unfinished(self, prefix: str, before: float) -> None:
        """Delete what obstore was writing when it died: `key#1`, which it does not list."""
        for folder, _, names in os.walk(self._folder / prefix):
            for path in [Path(folder, name) for name in names if "#" in name]:
                with suppress(FileNotFoundError):  # its writer lives, and has just finished
                    if path.stat().st_mtime < before:
                        path.unlink()

    def _sync(self, key: str) -> None:
        """Flush the object and each folder on the way to it: a rename alone may be lost."""
        path = self._folder / key
        _flush(path)
        for folder in path.parents:
            _flush(folder)
            if folder == self._folder:
                return


def _checked(key: str) -> str:
    if len(key) > KEY_LENGTH_MAX or not KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:KEY_LENGTH_MAX]!r}")
    return key


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(operation: str, key: str, *, may_be_missing: bool = True) -> Iterator[None]:
    """Turn what the store raises into our two words for it."""
    try:
        yield
    except (ObstoreError, OSError) as exc:
        if may_be_missing and isinstance(exc, FileNotFoundError):
            raise ResultExpiredError from exc
        log.exception("storage.failed", operation=operation, key=key)
        raise StorageUnavailableError from exc
