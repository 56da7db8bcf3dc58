"""Which addresses a stranger's URL may name, and what addresses a name has.

The rule lists what is public and refuses the rest, so that a range nobody thought of is refused.
Python's `is_global` alone would let IPv4 in IPv6's clothes through (`::127.0.0.1`, NAT64, 6to4,
ISATAP).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import dns.asyncresolver
import dns.nameserver
from dns.exception import DNSException
from dns.rdatatype import RdataType

IPAddress = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[IPAddress]]]

RESOLVE_DEADLINE_S: Final = 2.0

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


class Resolver:
    """Asks the machine's name servers, without threads, so that a name that hangs costs nothing.

    The hosts file and the search domains of this machine are not consulted: what a stranger names
    has to be in the DNS.
    """

    def __init__(self, nameservers: Sequence[tuple[str, int]] | None = None) -> None:
        """Use the name servers of the machine, or `nameservers` (address and port)."""
        self._resolver: dns.asyncresolver.Resolver | None = None
        if nameservers is not None:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in nameservers
            ]

    async def __call__(self, name: str) -> list[IPAddress]:
        """Give all addresses of `name`, IPv4 first.

        Raises:
            OSError: there are none, or they did not come in time.
        """
        ipv4, ipv6 = await asyncio.gather(
            self._ask(name, RdataType.A), self._ask(name, RdataType.AAAA)
        )
        if not ipv4 and not ipv6:
            raise OSError("the name has no addresses")
        return [*ipv4, *ipv6]

    async def _ask(self, name: str, kind: RdataType) -> list[IPAddress]:
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            answer = await self._resolver.resolve(
                f"{name}.", kind, lifetime=RESOLVE_DEADLINE_S, search=False
            )
        except DNSException:  # no such name, no record of this kind, no answer in time
            return []
        return [ip_address(record.to_text()) for record in answer]


async def system_addresses(name: str) -> list[IPAddress]:
    """Ask the system, hosts file and all: only for names that the operator allowed."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_DEADLINE_S):
        rows = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    found = {ip_address(str(row[4][0]).partition("%")[0]) for row in rows}
    return sorted(found, key=lambda address: (address.version, int(address)))
