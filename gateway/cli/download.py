"""Weights over https: streamed beside their place, held to their checksum, and then put there.

A file is there whole and right, or it is not there: gateways that run look for it on each call.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import IO, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from core.weights import WEIGHTS, Weights

RELEASE: Final = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
"""Where rembg publishes the files that the checksums of our table are of, and gets them itself."""
SIZES_MAX: Final = 2
"""What is larger than so many times the released file is none of ours: no more of it is taken."""
SILENCE_S_MAX: Final = 30.0
BYTES_PER_S_MIN: Final = 32 * 2**10
"""What comes more slowly for the whole of its size, a silence aside, is given up."""
READABLE: Final = 0o644


class DownloadError(Exception):
    """What was asked for did not come, or something else did."""


def url_of(name: str) -> str:
    return f"{RELEASE}/{WEIGHTS[name].file_name}"


def download(name: str, folder: Path, screen: Console) -> None:
    """Put the weights `name` into `folder`, which is made where there is none.

    Raises:
        DownloadError: nothing was put there, and why.
    """
    weights = WEIGHTS[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as partial:
            path = Path(partial.name)
            try:
                checksum = _receive(weights, partial, screen)
                if checksum not in weights.checksums:
                    raise DownloadError(f"what came is not {name}: its checksum is another")
                path.chmod(READABLE)
                path.replace(folder / weights.file_name)
            finally:
                path.unlink(missing_ok=True)
    except httpx.HTTPStatusError as exc:
        raise DownloadError(f"the answer was {exc.response.status_code}") from exc
    except httpx.HTTPError as exc:
        raise DownloadError(str(exc) or type(exc).__name__) from exc
    except OSError as exc:
        raise DownloadError(f"{exc.filename or folder}: {exc.strerror or exc}") from exc


def _receive(weights: Weights, file: IO[bytes], screen: Console) -> str:
    """Write what comes into `file`, and return its SHA-256."""
    checksum = hashlib.sha256()
    received_bytes = 0
    columns = (TextColumn(weights.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=screen) as progress,
        _client() as client,
        client.stream("GET", url_of(weights.name)) as answer,
    ):
        answer.raise_for_status()
        task = progress.add_task(weights.name, total=weights.size_bytes)
        for chunk in _in_time(answer.iter_bytes(), weights.size_bytes):
            received_bytes += len(chunk)
            if received_bytes > SIZES_MAX * weights.size_bytes:
                raise DownloadError(f"what came is not {weights.name}: it is far larger")
            file.write(chunk)
            checksum.update(chunk)
            progress.update(task, completed=received_bytes)
    file.flush()
    return checksum.hexdigest()


def _client() -> httpx.Client:
    try:
        return httpx.Client(follow_redirects=True, timeout=SILENCE_S_MAX)
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        raise DownloadError(f"the proxy of the environment cannot be used: {exc}") from exc


def _in_time(chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Pass on what comes, while a file of `size_bytes` can still be whole in time."""
    patience_s = SILENCE_S_MAX + size_bytes / BYTES_PER_S_MIN
    deadline = monotonic() + patience_s
    for chunk in chunks:
        if monotonic() > deadline:
            raise DownloadError(f"it was not whole after {patience_s:.0f} s")
        yield chunk
