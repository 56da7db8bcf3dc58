"""image_url -> bytes, from public addresses only.

Every hop is judged anew: its URL, then every address its name has. The connection goes to a judged
address, so that a name that changes its mind between look-up and connection gains nothing. What
went wrong is in the log; the caller learns "unreachable" or "not allowed" and nothing more.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import certifi
import httpcore
import idna
import structlog

from gateway.addresses import IPAddress, Resolve, Resolver, is_loopback, is_public
from gateway.errors import (
    SourceTooLargeError,
    UrlNotAllowedError,
    UrlUnreachableError,
)
from gateway.settings import Settings
from gateway.source import Source, spool

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
URL_LENGTH_MAX: Final = 8192
CONNECT_DEADLINE_S: Final = 3.0
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
NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
REQUEST_HEADERS: Final = (
    ("User-Agent", "cutout-gateway"),
    ("Accept", "image/png, image/jpeg, image/webp, image/bmp, */*;q=0.1"),
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """One hop, judged by its URL alone."""

    scheme: str
    host: str
    port: int
    path: str
    literal: IPAddress | None

    @property
    def place(self) -> str:
        """`host:port` as the list of allowed hosts writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def header(self) -> str:
        """The `Host` header."""
        is_usual = DEFAULT_PORTS[self.scheme] == self.port
        return self.place.rpartition(":")[0] if is_usual else self.place

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.header}{self.path}"

    @property
    def url_without_query(self) -> str:
        return self.url.partition("?")[0]


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
        self._ports = frozenset(settings.fetch_ports)
        self._allowed_places = frozenset(place.lower() for place in settings.fetch_allowed_hosts)
        self._is_loopback_allowed = settings.fetch_allow_loopback
        self._deadline_s = settings.fetch_deadline.total_seconds()
        self._redirects_max = settings.fetch_redirects_max
        self._bytes_max = settings.upload_bytes_max
        self._memory_bytes_max = settings.spool_bytes_max
        self._resolve = resolve or Resolver()
        self._tls = tls or _system_tls()

    async def fetch(self, url: str) -> Source:
        """Download `url`; the caller closes the source.

        Raises:
            UrlNotAllowedError: the URL, a redirect of it or an address behind it is refused.
            UrlUnreachableError: no usable answer in time.
            SourceTooLargeError: more bytes than an upload may have.
        """
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline_s):
                source = await self._follow(url)
        except TimeoutError as exc:
            log.info("source.refused", reason="deadline", url=None)
            raise UrlUnreachableError("deadline") from exc
        log.info(
            "source.fetched",
            source_bytes=source.size_bytes,
            fetch_ms=round((time.monotonic() - started_at) * 1000),
        )
        return source

    async def _follow(self, url: str) -> Source:
        target = target_from(url)
        for _ in range(self._redirects_max + 1):
            try:
                answer = await self._fetch_hop(target)
            except TRANSPORT_ERRORS as exc:
                raise _unreachable(type(exc).__name__, target) from exc
            if isinstance(answer, Source):
                return answer
            if target.scheme == "https" and answer.scheme == "http":
                raise _refused("redirect from https to http", answer)
            target = answer
        raise _unreachable("too many redirects", target)

    async def _fetch_hop(self, target: Target) -> Source | Target:
        addresses = await self._judged_addresses(target)
        connection = httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=self._tls,
            network_backend=PinnedBackend(addresses),
        )
        async with connection:
            request = httpcore.Request(
                "GET",
                httpcore.URL(
                    scheme=target.scheme, host=target.host, port=target.port, target=target.path
                ),
                headers=[("Host", target.header), *REQUEST_HEADERS],
            )
            async with asyncio.timeout(FIRST_BYTE_DEADLINE_S):
                response = await connection.handle_async_request(request)
            try:
                return await self._take_in(response, target)
            finally:
                await response.aclose()

    async def _take_in(self, response: httpcore.Response, target: Target) -> Source | Target:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in REDIRECTS and b"location" in headers:
            return target_from(urljoin(target.url, headers[b"location"].decode("latin-1")))
        if response.status != OK:
            raise _unreachable(f"status {response.status}", target)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _unreachable("content encoding", target)
        # h11 has seen to it that this is a number, and that no more is read than it says.
        if int(headers.get(b"content-length", b"0")) > self._bytes_max:
            raise SourceTooLargeError(self._bytes_max)
        async with aclosing(at_least(response.aiter_stream())) as chunks:
            return await spool(chunks, self._bytes_max, memory_bytes_max=self._memory_bytes_max)

    async def _judged_addresses(self, target: Target) -> list[IPAddress]:
        """Find the addresses behind `target`, all of them allowed, or refuse it."""
        if target.place in self._allowed_places:
            return [target.literal] if target.literal else await self._resolve(target.host)
        if self._is_loopback_allowed and (target.literal or target.host == "localhost"):
            found = [target.literal] if target.literal else await self._resolve(target.host)
            if all(is_loopback(address) for address in found):
                return found
        if target.port not in self._ports:
            raise _refused("port", target)
        if target.literal is None and "." not in target.host:
            raise _refused("host without a domain", target)
        # The final dot keeps the resolver from trying the machine's own search domains.
        found = [target.literal] if target.literal else await self._resolve(f"{target.host}.")
        if not found or not all(is_public(address) for address in found):
            raise _refused("address", target)
        return found


def target_from(url: str) -> Target:
    """Read `url` strictly: what two parsers could read differently is refused.

    Raises:
        UrlNotAllowedError: scheme, user, host or port is not one we fetch from.
    """
    if len(url) > URL_LENGTH_MAX or "\\" in url or any(ord(letter) <= ord(" ") for letter in url):
        raise _refused("malformed")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise _refused("malformed") from exc
    if parts.scheme not in DEFAULT_PORTS or not parts.netloc:
        raise _refused("scheme")
    if "@" in parts.netloc or port == 0:
        raise _refused("user or port")
    host, literal = _host_from(parts)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]|")
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port or DEFAULT_PORTS[parts.scheme],
        path=f"{path}?{query}" if query else path,
        literal=literal,
    )


def _host_from(parts: SplitResult) -> tuple[str, IPAddress | None]:
    """Read the host: a literal in its one canonical form, or a name in ASCII."""
    host = parts.hostname or ""
    if "[" in parts.netloc:
        try:
            ipv6 = IPv6Address(host)
        except ValueError as exc:
            raise _refused("host") from exc
        if ipv6.scope_id is not None:
            raise _refused("host")
        return str(ipv6), ipv6
    try:
        name = idna.encode(host, uts46=True).decode().rstrip(".") if host else ""
    except idna.IDNAError:
        name = host.lower().rstrip(".") if host.isascii() else ""
    if NUMBER.fullmatch(name.rpartition(".")[2]):  # a number whatever the labels before it
        try:
            ipv4 = IPv4Address(host)
        except ValueError as exc:
            raise _refused("numeric host") from exc
        return str(ipv4), ipv4
    if len(name) > 253 or not NAME.fullmatch(name):  # noqa: PLR2004  # RFC 1035
        raise _refused("host")
    return name, None


async def at_least(
    chunks: AsyncIterable[bytes],
    bytes_per_s: int = RATE_BYTES_PER_S_MIN,
    window_s: float = RATE_WINDOW_S,
) -> AsyncGenerator[bytes, None]:
    """Pass `chunks` on as long as each window of time brings its bytes.

    Raises:
        UrlUnreachableError: a window brought fewer.
    """
    loop = asyncio.get_running_loop()
    iterator = aiter(chunks)
    window_ends_at = loop.time() + window_s
    window_bytes = 0
    while True:
        try:
            async with asyncio.timeout_at(window_ends_at):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError as exc:
            log.info("source.refused", reason="rate", window_bytes=window_bytes)
            raise UrlUnreachableError("rate") from exc
        window_bytes += len(chunk)
        yield chunk
        if window_bytes >= bytes_per_s * window_s:
            window_ends_at = loop.time() + window_s
            window_bytes = 0


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the given addresses, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[IPAddress]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del host, timeout
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            try:
                stream = await self._backend.connect_tcp(
                    str(address),
                    port,
                    CONNECT_DEADLINE_S / len(self._addresses),
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
                continue
            peer = stream.get_extra_info("server_addr")
            if ip_address(peer[0]) != address:
                await stream.aclose()
                raise httpcore.ConnectError("connected to another address")
            return stream
        raise failure


def _system_tls() -> ssl.SSLContext:
    tls = ssl.create_default_context()
    tls.load_verify_locations(certifi.where())  # slim images have no store of their own
    return tls


def _refused(reason: str, target: Target | None = None) -> UrlNotAllowedError:
    log.info("source.refused", reason=reason, url=target.url_without_query if target else None)
    return UrlNotAllowedError(reason)


def _unreachable(reason: str, target: Target) -> UrlUnreachableError:
    log.info("source.refused", reason=reason, url=target.url_without_query)
    return UrlUnreachableError(reason)
