"""Which weights are here, and whether they are the files that the table names.

A file is read whole for its checksum, so that is done in a thread, once for each file as it is now;
a page that comes before the answer says so.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core import WEIGHTS, CoreError, Weights, find_weights

CHUNK_BYTES: Final = 2**20
SOON_S: Final = 0.05
Stamp = tuple[Path, int, int]
"""A file as it is: its place, size and time of change."""


@dataclass(frozen=True, slots=True)
class WeightsState:
    """One row of the table of models, as this gateway finds it."""

    weights: Weights
    path: Path | None
    size_bytes: int | None
    is_right: bool | None
    """Whether its checksum is one that the table names; None while that is being found out."""


@dataclass(slots=True)
class WeightsShelf:
    """The folder of weights, and the checksums known of it."""

    folder: Path | None
    _checksums: dict[Stamp, str] = field(default_factory=dict)
    _under_way: dict[Stamp, asyncio.Task[None]] = field(default_factory=dict)

    async def look(self) -> list[WeightsState]:
        """Tell how each model's weights stand; what is not known soon is told the next time."""
        found = [self._state_of(weights) for weights in WEIGHTS.values()]
        if not self._under_way:
            return found
        await asyncio.wait(self._under_way.values(), timeout=SOON_S)
        return [self._state_of(weights) for weights in WEIGHTS.values()]

    def _state_of(self, weights: Weights) -> WeightsState:
        try:
            path = find_weights(weights.name, self.folder)
            about = path.stat()
        except (CoreError, OSError):
            return WeightsState(weights, None, None, None)
        stamp = (path, about.st_size, about.st_mtime_ns)
        checksum = self._checksums.get(stamp)
        if checksum is None and stamp not in self._under_way:
            task = asyncio.create_task(self._check(stamp))
            self._under_way[stamp] = task
        is_right = None if checksum is None else checksum in weights.checksums
        return WeightsState(weights, path, about.st_size, is_right)

    async def _check(self, stamp: Stamp) -> None:
        try:
            self._checksums[stamp] = await asyncio.to_thread(_checksum, stamp[0])
        except OSError:
            self._checksums[stamp] = "unreadable"
        finally:
            del self._under_way[stamp]


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
