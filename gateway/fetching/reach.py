"""What a stranger's URL may make us connect to: the one rule, for pictures and for webhooks.

A name is judged by all its addresses, and the connection goes to one of those that were judged
(`pinned.py`), so that a name that changes its mind in between gains nothing.
"""

import functools
import re
import ssl
from collections.abc import Sequence
from typing import Final

import certifi

from gateway.errors import UrlNotAllowedError
from gateway.fetching.addresses import IPAddress, Resolve, Resolver, is_public, system_addresses
from gateway.fetching.urls import Target, target_from
from gateway.settings import Settings

ALLOWED_PLACE: Final = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9_.-]+):[0-9]{1,5}")


class Reach:
    """Tells what may be visited, and where it is."""

    def __init__(self, settings: Settings, *, resolve: Resolve | None = None) -> None:
        """Take the rules from `settings`; `resolve` asks the machine unless it is given."""
        self._ports = frozenset(settings.fetch_ports)
        self._allowed_places = frozenset(place.lower() for place in settings.fetch_allowed_hosts)
        if wrong := [place for place in self._allowed_places if not ALLOWED_PLACE.fullmatch(place)]:
            raise ValueError(f"fetch_allowed_hosts takes host:port, not {wrong[0]}")
        self._is_loopback_allowed = settings.fetch_allow_loopback
        self._resolve = resolve or Resolver()

    @property
    def rule(self) -> str:
        """Tell where pictures are fetched from, the same to whomever a URL is refused."""
        ports = " or ".join(map(str, sorted(self._ports)))
        return f"only public addresses on port {ports}, without a password, redirects included"

    def check(self, url: str) -> Target:
        """Read `url` and judge what can be judged without asking for its name's addresses.

        Raises:
            UrlNotAllowedError: it can never be visited from here.
        """
        target = target_from(url)
        if not self._is_excused(target):
            self._check_public(target)
        return target

    async def addresses_of(self, target: Target) -> Sequence[IPAddress]:
        """Find the addresses behind `target`, all of them allowed, or refuse it.

        Raises:
            UrlNotAllowedError: its port, its host or one of its addresses is refused.
            OSError: its name has no addresses, or they did not come in time.
        """
        if target.place in self._allowed_places:
            return [target.literal] if target.literal else await system_addresses(target.host)
        if self._is_loopback_allowed and (loopback := await _loopback_addresses(target)):
            return loopback
        self._check_public(target)
        addresses = [target.literal] if target.literal else await self._resolve(target.host)
        if not addresses or not all(is_public(address) for address in addresses):
            raise UrlNotAllowedError("address")
        return addresses

    def _is_excused(self, target: Target) -> bool:
        is_loopback = target.literal.is_loopback if target.literal else target.host == "localhost"
        return target.place in self._allowed_places or (self._is_loopback_allowed and is_loopback)

    def _check_public(self, target: Target) -> None:
        if target.port not in self._ports:
            raise UrlNotAllowedError("port")
        if target.literal is None and "." not in target.host:
            raise UrlNotAllowedError("host without a domain")
        if target.literal is not None and not is_public(target.literal):
            raise UrlNotAllowedError("address")


async def _loopback_addresses(target: Target) -> Sequence[IPAddress]:
    """Give this machine's own address where the URL plainly names it."""
    if target.literal is not None:
        return [target.literal] if target.literal.is_loopback else []
    if target.host != "localhost":
        return []
    return [address for address in await system_addresses("localhost") if address.is_loopback]


@functools.cache
def system_tls() -> ssl.SSLContext:
    """Trust what the system and Mozilla trust."""
    tls = ssl.create_default_context()
    tls.load_verify_locations(certifi.where())  # slim images have no store of their own
    return tls
