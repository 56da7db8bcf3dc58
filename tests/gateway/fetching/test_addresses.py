"""The public-address rule against a table and the whole address space; names under a deadline."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fetching.addresses import Resolver, is_public

PRIVATE = [
    # IPv4: this machine, private networks, carriers, link-local, tests, multicast, the future.
    "0.0.0.0",  # noqa: S104  # an address to refuse, not one to bind
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.80",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    # IPv6: itself, and IPv4 in its many clothes.
    "::",
    "::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:808:808::1",
    "2400:1::5efe:7f00:1",
    "2400:1::200:5efe:a00:1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "168.63.129.15",
    "172.15.255.255",
    "172.32.0.1",
    "192.88.98.1",
    "223.255.255.254",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "3ffe::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_everybodys_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_everybodys_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_of_a_special_block_is_public(address: IPv4Address) -> None:
    special = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "168.63.129.16/32",
    ]
    if any(address in IPv4Network(block) for block in special):
        assert not is_public(address)
    elif address not in IPv4Network("192.0.0.0/24"):
        assert is_public(address)


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_outside_the_public_block_is_never_public(address: IPv6Address) -> None:
    if address not in IPv6Network("2000::/3"):
        assert not is_public(address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_ipv4_in_the_clothes_of_ipv6_gains_nothing(address: IPv4Address) -> None:
    inner = int(address)
    clothes = [
        inner,  # IPv4-compatible
        (0xFFFF << 32) | inner,  # IPv4-mapped
        (0x0064FF9B << 96) | inner,  # NAT64
        (0x0064FF9B0001 << 80) | inner,  # NAT64, local
        (0x2002 << 112) | (inner << 80),  # 6to4
        (0x20010000 << 96) | (inner ^ 0xFFFFFFFF),  # Teredo
        (0x2A00 << 112) | (0x00005EFE << 32) | inner,  # ISATAP under a public prefix
        (0x2A00 << 112) | (0x02005EFE << 32) | inner,
    ]
    assert not any(is_public(IPv6Address(number)) for number in clothes)


class NameServer(asyncio.DatagramProtocol):
    """A real DNS server on loopback that answers from a table, or never."""

    def __init__(self, records: dict[str, list[str]]) -> None:
        self.records = records
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text()
        self.asked.append(name)
        if "hangs" in name:
            return
        answer = dns.message.make_response(query)
        kind = "A" if question.rdtype == dns.rdatatype.A else "AAAA"
        found = [a for a in self.records.get(name, []) if (":" in a) == (kind == "AAAA")]
        if found:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        elif name not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    server = NameServer(
        {
            "both.example.": ["2606:4700::1", "93.184.216.34"],
            "four.example.": ["93.184.216.34"],
            "mixed.example.": ["93.184.216.34", "10.0.0.1"],
            "none.example.": [],
        }
    )
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 0), family=socket.AF_INET
    )
    yield server
    transport.close()


@pytest.fixture
def resolver(name_server: NameServer) -> Resolver:
    return Resolver([name_server.transport.get_extra_info("sockname")])


async def test_a_name_has_all_its_addresses_ipv4_first(resolver: Resolver) -> None:
    assert await resolver("both.example") == [
        IPv4Address("93.184.216.34"),
        IPv6Address("2606:4700::1"),
    ]
    assert await resolver("four.example") == [IPv4Address("93.184.216.34")]
    assert len(await resolver("mixed.example")) == 2


@pytest.mark.parametrize("name", ["none.example", "nobody.example"])
async def test_a_name_without_addresses_is_an_error(resolver: Resolver, name: str) -> None:
    with pytest.raises(OSError, match="no addresses"):
        await resolver(name)


async def test_the_search_domains_of_the_machine_are_not_tried(
    resolver: Resolver, name_server: NameServer
) -> None:
    with pytest.raises(OSError, match="no addresses"):
        await resolver("metadata.nowhere")
    assert set(name_server.asked) == {"metadata.nowhere."}


async def test_a_hundred_names_that_hang_end_together_after_two_seconds(
    resolver: Resolver,
) -> None:
    threads_before = threading.active_count()
    started_at = time.monotonic()
    outcomes = await asyncio.gather(
        *(resolver(f"hangs-{number}.example") for number in range(100)), return_exceptions=True
    )
    took_s = time.monotonic() - started_at
    assert all(isinstance(outcome, OSError) for outcome in outcomes)
    assert 1.9 < took_s < 4
    assert threading.active_count() == threads_before
