"""Connections to addresses that were judged before, whatever the name says by then."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import httpcore

CONNECT_DEADLINE_S: Final = 3.0
CONNECT_ATTEMPTS_MAX: Final = 4


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the given addresses, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[IPv4Address | IPv6Address]) -> None:
        self._addresses = addresses[:CONNECT_ATTEMPTS_MAX]
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
        attempt_deadline_s = CONNECT_DEADLINE_S / len(self._addresses)
        for address in self._addresses:
            try:
                stream = await self._backend.connect_tcp(
                    str(address), port, attempt_deadline_s, local_address, socket_options
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
