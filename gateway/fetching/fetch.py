"""image_url -> bytes, from public addresses only.

Every hop is judged anew: its URL, then every address its name has. The connection goes to a judged
address, so that a name that changes its mind between look-up and connection gains nothing. What
went wrong is in the log; the caller learns "unreachable" or "not allowed", the status that a public
server answered with, and faults of his own syntax.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Final
from uuid import UUID

import httpcore
import structlog

from gateway.errors import (
    FetchError,
    SourceTooLargeError,
    UrlNotAllowedError,
    UrlStatusError,
    UrlUnreachableError,
)
from gateway.fetching.addresses import Resolve
from gateway.fetching.pinned import PinnedBackend
from gateway.fetching.reach import Reach, system_tls
from gateway.fetching.urls import Target, target_from
from gateway.settings import Settings
from gateway.shares import Shares
from gateway.source import Source, spool

FIRST_BYTE_DEADLINE_S: Final = 5.0
RATE_BYTES_PER_S_MIN: Final = 20 * 1024
RATE_WINDOW_S: Final = 2.0
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
OK: Final = 200
TRANSPORT_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    OSError,  # TLS and name look-ups, and our own timeouts
)
REQUEST_HEADERS: Final = (
    ("User-Agent", "cutout-gateway"),
    ("Accept", "image/png, image/jpeg, image/webp, image/bmp, */*;q=0.1"),
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)

log = structlog.get_logger()


class Fetcher:
    """Downloads what strangers name, and nothing that they should not reach."""

    def __init__(
        self,
        settings: Settings,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the rules from `settings`; `resolve` and `tls` are the system's unless given."""
        self.reach = Reach(settings, resolve=resolve)
        self._deadline_s = settings.fetch_deadline.total_seconds()
        self._redirects_max = settings.fetch_redirects_max
        self._bytes_max = settings.upload_bytes_max
        self._memory_bytes_max = settings.spool_bytes_max
        self._shares = Shares(settings.fetch_concurrency_max)
        self._tls = tls or system_tls()

    async def fetch(
        self, url: str, account_id: UUID | None = None, *, field: str = "image_url"
    ) -> Source:
        """Download `url`, sent as `field`, for `account_id`; the caller closes the source.

        Raises:
            UrlNotAllowedError: the URL, a redirect of it or an address behind it is refused.
            UrlUnreachableError: no usable answer in time.
            SourceTooLargeError: more bytes than an upload may have.
            OverloadedError: too many downloads are under way, or too many of this account.
        """
        async with self._shares.one(account_id):
            return await self._fetch(url, field)

    async def _fetch(self, url: str, field: str) -> Source:
        started_at = time.monotonic()
        hops: list[Target] = []
        try:
            source = await self._within_deadline(url, hops)
        except FetchError as exc:
            exc.field = field
            if isinstance(exc, UrlNotAllowedError):
                exc.rule = self.reach.rule
            where = hops[-1].url_without_query if hops else None
            log.info("source.refused", problem=type(exc).__name__, reason=str(exc), url=where)
            raise
        fetch_ms = round((time.monotonic() - started_at) * 1000)
        log.info("source.fetched", source_bytes=source.size_bytes, fetch_ms=fetch_ms)
        return source

    async def _within_deadline(self, url: str, hops: list[Target]) -> Source:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._follow(url, hops)
        except TRANSPORT_ERRORS as exc:
            raise UrlUnreachableError(type(exc).__name__) from exc

    async def _follow(self, url: str, hops: list[Target]) -> Source:
        target = target_from(url)
        while len(hops) <= self._redirects_max:
            hops.append(target)
            answer = await self._visit(target)
            if isinstance(answer, Source):
                return answer
            target = answer
        raise UrlUnreachableError("too many redirects")

    async def _visit(self, target: Target) -> Source | Target:
        """Ask one hop for the picture; it may send us on."""
        connection = httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=self._tls,
            network_backend=PinnedBackend(await self.reach.addresses_of(target)),
        )
        request = httpcore.Request(
            "GET",
            httpcore.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path
            ),
            headers=[("Host", target.host_header), *REQUEST_HEADERS],
        )
        async with connection:
            async with asyncio.timeout(FIRST_BYTE_DEADLINE_S):
                response = await connection.handle_async_request(request)
            try:
                return await self._take_in(response, target)
            finally:
                await response.aclose()

    async def _take_in(self, response: httpcore.Response, target: Target) -> Source | Target:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in REDIRECTS and b"location" in headers:
            return target.redirect(headers[b"location"].decode("utf-8", "replace"))
        if response.status != OK:
            raise UrlStatusError(response.status)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UrlUnreachableError("content encoding")  # we asked for none
        # h11 has seen to it that this is a number, and reads no more than it says.
        if int(headers.get(b"content-length", b"0")) > self._bytes_max:
            raise SourceTooLargeError(self._bytes_max)
        chunks = at_least(response.aiter_stream(), RATE_BYTES_PER_S_MIN, RATE_WINDOW_S)
        async with aclosing(chunks):
            return await spool(chunks, self._bytes_max, memory_bytes_max=self._memory_bytes_max)


async def at_least(
    chunks: AsyncIterable[bytes], bytes_per_s: int, window_s: float
) -> AsyncGenerator[bytes, None]:
    """Pass `chunks` on while each `window_s` spent waiting for them brings its bytes.

    Raises:
        UrlUnreachableError: one brought fewer.
    """
    iterator = aiter(chunks)
    waited_s = 0.0
    window_bytes = 0
    while True:
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(window_s - waited_s):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError as exc:
            raise UrlUnreachableError("rate") from exc
        waited_s += time.monotonic() - started_at
        window_bytes += len(chunk)
        yield chunk
        if window_bytes >= bytes_per_s * window_s:
            waited_s = 0.0
            window_bytes = 0
