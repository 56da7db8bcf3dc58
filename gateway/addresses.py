"""Which addresses a stranger's URL may name, and what addresses a name has.

The rule lists what is public and refuses the rest, so that a range nobody thought of is refused.
Python's `is_global` alone would let IPv4 in IPv6's clothes through (`::127.0.0.1`, NAT64, 6to4,
ISATAP).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

IPAddress = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[IPAddress]]]

RESOLVE_DEADLINE_S: Final = 2.0
RESOLVE_THREADS_MAX: Final = 32
"""A look-up that hangs keeps its thread until the system gives up; these are all it can take."""

IPV4_REFUSED: Final = (
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # Azure's host, public in name only
)
IPV6_PUBLIC: Final = IPv6Network("2000::/3")
IPV6_REFUSED: Final = (
    IPv6Network("2001::/23"),  # Teredo and other protocol assignments
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),  # documentation
)
ISATAP: Final = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def is_public(address: IPAddress) -> bool:
    """Tell whether anybody on the internet could be meant by `address`."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        return (
            address in IPV6_PUBLIC
            and address.is_global
            and address.packed[8:12] not in ISATAP
            and not any(address in network for network in IPV6_REFUSED)
        )
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in IPV4_REFUSED)
    )


def is_loopback(address: IPAddress) -> bool:
    return address.is_loopback


class Resolver:
    """The system's names, asked from threads of our own under a deadline of our own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVE_THREADS_MAX, thread_name_prefix="resolve")

    async def __call__(self, name: str) -> list[IPAddress]:
        """Give all addresses of `name`, IPv4 first.

        Raises:
            OSError: there are none, or they did not come in time.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(RESOLVE_DEADLINE_S):
            found = await loop.run_in_executor(self._threads, _look_up, name)
        return sorted(found, key=lambda address: address.version)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(name: str) -> set[IPAddress]:
    rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    # A zone index ("fe80::1%eth0") is cut off; such addresses are never public anyway.
    return {ip_address(str(row[4][0]).partition("%")[0]) for row in rows}
