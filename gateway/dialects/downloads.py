"""Results going out: a stored cutout, streamed from storage, with a browser kept at bay."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from litestar import Response
from litestar.response import Stream

from gateway.errors import JobNotFoundError, ResultExpiredError
from gateway.storage import Storage
from gateway.tables import SUCCEEDED, Job

# What a picture could carry as script stays without effect when it is opened by itself.
CONTENT_POLICY: Final = "default-src 'none'; sandbox"


async def answer_file(
    storage: Storage,
    job: Job,
    filename: str,
    *,
    is_head: bool,
    link_ends_at: datetime | None = None,
) -> Response[Any]:
    """Answer the result of `job` under `filename`, to be kept no longer than link and result live.

    Raises:
        JobNotFoundError: it has none.
        ResultExpiredError: it had one.
        StorageUnavailableError: it has one that cannot be read now.
    """
    if job.state != SUCCEEDED or job.result_key is None:
        raise JobNotFoundError
    now = datetime.now(UTC)
    if job.purged_at is not None or job.result_expires_at is None or job.result_expires_at <= now:
        raise ResultExpiredError
    ends_at = min(job.result_expires_at, link_ends_at or job.result_expires_at)
    headers = {
        "Cache-Control": f"private, max-age={max(0, int((ends_at - now).total_seconds()))}",
        "Content-Disposition": f'inline; filename="{filename}"',
        "Content-Length": str(job.result_bytes),
        "Content-Security-Policy": CONTENT_POLICY,
    }
    if is_head:
        if not await storage.exists(job.result_key):
            raise ResultExpiredError
        return Response(b"", headers=headers, media_type=job.media_type)
    chunks = storage.stream(job.result_key)
    first = await anext(chunks)  # what is missing is told before the answer starts
    return Stream(_rejoined(first, chunks), headers=headers, media_type=job.media_type)


async def _rejoined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
