"""A stranger's URL, read strictly: what two parsers could read differently is refused.

Says only what the URL itself says; whether its addresses may be visited is judged in `addresses`.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import idna

from gateway.errors import UrlMalformedError, UrlNotAllowedError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
URL_LENGTH_MAX: Final = 8192
NAME_LENGTH_MAX: Final = 253
PORT_MAX: Final = 65535
UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")
PLACE: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:@]+)(?::([0-9]{1,5}))?", re.ASCII)
NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Target:
    """One hop of a download."""

    scheme: str
    host: str
    """A name in ASCII without a final dot, or an address in its canonical form."""
    port: int
    path: str
    """With the query."""
    literal: IPv4Address | IPv6Address | None
    """The host, where it is an address."""

    @property
    def place(self) -> str:
        """`host:port` as the list of allowed hosts writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        is_usual = DEFAULT_PORTS[self.scheme] == self.port
        return self.place.rpartition(":")[0] if is_usual else self.place

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.path}"

    @property
    def url_without_query(self) -> str:
        """Give what may be logged: queries carry signatures."""
        return self.url.partition("?")[0]

    def redirect(self, location: str) -> "Target":
        """Read where this hop sends us, strictly again.

        Raises:
            UrlNotAllowedError: it is no URL that we fetch, or leaves https for http.
        """
        try:
            target = target_from(urljoin(self.url, location))
        except UrlMalformedError as exc:  # a server's words, which its caller is not told
            raise UrlNotAllowedError(f"redirect: {exc}") from None
        if self.scheme == "https" and target.scheme != "https":
            raise UrlNotAllowedError("redirect from https to http")
        return target


def target_from(url: str) -> Target:
    """Read `url`.

    Raises:
        UrlMalformedError: its length, a character of it or its scheme is refused.
        UrlNotAllowedError: its user, host or port is.
    """
    if len(url) > URL_LENGTH_MAX:
        raise UrlMalformedError(f"must not be longer than {URL_LENGTH_MAX} characters")
    if UNPRINTABLE.search(url):
        raise UrlMalformedError("must be percent-encoded: %20 for a space")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise UrlNotAllowedError("malformed") from exc
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlMalformedError("must begin with http:// or https://")
    place = PLACE.fullmatch(parts.netloc)
    if place is None:
        raise UrlNotAllowedError("user, host or port")
    host, literal = _host_from(place[1])
    port = int(place[2] or DEFAULT_PORTS[parts.scheme])
    if not 1 <= port <= PORT_MAX:
        raise UrlNotAllowedError("port")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return Target(parts.scheme, host, port, f"{path}?{query}" if query else path, literal)


def _host_from(host: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    """Read the host: an address in its one canonical form, or a name."""
    try:
        if host.startswith("["):
            ipv6 = IPv6Address(host[1:-1])
            if ipv6.scope_id is not None:
                raise UrlNotAllowedError("host")
            return str(ipv6), ipv6
        name = _ascii_name(host)
        if NUMBER.fullmatch(name.rpartition(".")[2]):  # 127.1, 0x7f.1, 2130706433, 127.0.0.1。
            ipv4 = IPv4Address(host)  # refuses all but four decimal numbers
            return str(ipv4), ipv4
    except ValueError as exc:
        raise UrlNotAllowedError("host") from exc
    if len(name) > NAME_LENGTH_MAX or not NAME.fullmatch(name):
        raise UrlNotAllowedError("host")
    return name, None


def _ascii_name(host: str) -> str:
    """Give the name that the DNS knows, without its final dot."""
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()  # an IDNAError is a ValueError
    return host.lower().removesuffix(".")
