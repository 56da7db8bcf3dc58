"""Downloads from real servers that mean no good: what is refused, how soon, and how little is said.

Most servers here are on loopback and excused by `fetch_allowed_hosts`. Where the rule for public
addresses itself is tried, 127.0.0.1 is declared public and 127.0.0.2 stays private.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest
import trustme
from structlog.testing import capture_logs

from gateway.dialects.words import words_for
from gateway.errors import (
    FetchError,
    UrlNotAllowedError,
    UrlStatusError,
    UrlUnreachableError,
    problem_for,
)
from gateway.fetching.addresses import IPAddress
from gateway.fetching.fetch import Fetcher
from tests.gateway.fetching.sites import PHOTO, Names, Site, fetching, open_site, refusal


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest.fixture
async def other() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest.fixture
def fetcher(site: Site) -> Fetcher:
    return Fetcher(fetching(fetch_allowed_hosts=[site.place]))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Let 127.0.0.1 stand for the internet, which the tests do not have."""
    monkeypatch.setattr(
        "gateway.fetching.reach.is_public", lambda address: address == IPv4Address("127.0.0.1")
    )
    return Names({"photos.example": ["127.0.0.1"]})


# What works.


async def test_a_picture_arrives_whole(fetcher: Fetcher, site: Site) -> None:
    with await fetcher.fetch(site.shows("/a.png", PHOTO)) as source:
        assert source.read() == PHOTO


async def test_a_picture_without_a_length_or_in_chunks_arrives_whole(
    fetcher: Fetcher, site: Site
) -> None:
    site.says("/close", b"HTTP/1.0 200 OK\r\n\r\n", PHOTO)
    site.says(
        "/chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
    )
    with await fetcher.fetch(site.url + "/close") as source:
        assert source.read() == PHOTO
    with await fetcher.fetch(site.url + "/chunked") as source:
        assert source.read() == b"hello"


async def test_a_large_picture_waits_on_disk(site: Site) -> None:
    fetcher = Fetcher(fetching(fetch_allowed_hosts=[site.place], spool_bytes_max=1000))
    with await fetcher.fetch(site.shows("/a.png", PHOTO)) as source:
        assert source.is_spooled
        assert source.read() == PHOTO


async def test_the_request_says_little_and_asks_for_plain_bytes(
    fetcher: Fetcher, site: Site
) -> None:
    (await fetcher.fetch(site.shows("/a.png", PHOTO) + "?size=1&sig=x")).close()
    [request] = site.requests
    assert request.startswith("GET /a.png?size=1&sig=x HTTP/1.1\r\n")
    fields = dict(line.split(": ", 1) for line in request.strip().splitlines()[1:])
    assert fields["Host"] == site.place
    assert fields["Accept-Encoding"] == "identity"
    assert set(fields) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


async def test_many_pictures_are_fetched_at_once(fetcher: Fetcher, site: Site) -> None:
    site.says("/slow", b"HTTP/1.0 200 OK\r\n\r\n", PHOTO, pause_s=0.2)
    started_at = time.monotonic()
    sources = await asyncio.gather(*(fetcher.fetch(site.url + "/slow") for _ in range(100)))
    assert time.monotonic() - started_at < 5
    assert all(source.size_bytes == len(PHOTO) for source in sources)
    for source in sources:
        source.close()


# Where it goes.


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://127.0.0.1/",
        "http://localhost/",
        "http://metadata/",
        "http://2130706433/",
        "ftp://photos.example/a.png",
        "not a url",
    ],
)
async def test_what_is_not_public_is_not_allowed(url: str) -> None:
    assert isinstance(await refusal(Fetcher(fetching()), url), UrlNotAllowedError)


@pytest.mark.parametrize("port", [22, 25, 8080, 6379, 5432])
async def test_only_the_ports_of_the_web_are_visited(names: Names, port: int) -> None:
    fetcher = Fetcher(fetching(), resolve=names)
    assert type(await refusal(fetcher, f"http://photos.example:{port}/")) is UrlNotAllowedError
    assert names.asked == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "::1"]]
)
async def test_one_private_address_among_public_ones_refuses_the_name(
    site: Site, names: Names, addresses: list[str]
) -> None:
    names.table["photos.example"] = addresses
    fetcher = Fetcher(fetching(fetch_ports=[site.port]), resolve=names)
    url = f"http://photos.example:{site.port}/"
    assert type(await refusal(fetcher, url)) is UrlNotAllowedError
    assert site.requests == []


async def test_a_name_that_changes_its_mind_is_visited_where_it_was_judged(
    site: Site, names: Names
) -> None:
    """DNS rebinding: the second answer is private, and nobody asks for it."""
    site.shows("/a.png", PHOTO)

    class Rebinding(Names):
        async def __call__(self, name: str) -> list[IPAddress]:
            addresses = await super().__call__(name)
            self.table[name] = ["127.0.0.2"]
            return addresses

    rebinding = Rebinding(names.table)
    fetcher = Fetcher(fetching(fetch_ports=[site.port]), resolve=rebinding)
    url = f"http://photos.example:{site.port}/a.png"
    with await fetcher.fetch(url) as source:
        assert source.read() == PHOTO
    assert rebinding.asked == ["photos.example"]
    assert f"Host: photos.example:{site.port}" in site.requests[0]
    assert type(await refusal(fetcher, url)) is UrlNotAllowedError


async def test_the_next_address_is_tried_where_one_does_not_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.fetching.reach.is_public", lambda address: address.is_loopback)
    names = Names({"photos.example": ["127.0.0.9", "127.0.0.1"]})
    site.shows("/a.png", PHOTO)
    fetcher = Fetcher(fetching(fetch_ports=[site.port]), resolve=names)
    (await fetcher.fetch(f"http://photos.example:{site.port}/a.png")).close()


async def test_a_name_that_does_not_exist_is_unreachable(names: Names) -> None:
    fetcher = Fetcher(fetching(), resolve=names)
    assert type(await refusal(fetcher, "http://nobody.example/")) is UrlUnreachableError


async def test_the_proxies_of_the_environment_are_not_asked(
    fetcher: Fetcher, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    (await fetcher.fetch(site.shows("/a.png", PHOTO))).close()
    assert other.requests == []


async def test_an_allowed_host_is_one_port_of_one_host(
    fetcher: Fetcher, site: Site, other: Site
) -> None:
    for url in (other.shows("/a.png", PHOTO), f"http://localhost:{site.port}/a.png"):
        assert type(await refusal(fetcher, url)) is UrlNotAllowedError
    assert other.requests == site.requests == []


@pytest.mark.parametrize(
    "place", ["photos.example", "http://photos.example:80", "photos.example:*"]
)
def test_an_allowed_host_that_would_match_nothing_is_refused_at_start(place: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Fetcher(fetching(fetch_allowed_hosts=[place]))


async def test_loopback_is_visited_only_where_the_setting_says_so(site: Site) -> None:
    fetcher = Fetcher(fetching(fetch_allow_loopback=True))
    site.shows("/a.png", PHOTO)
    for host in ("127.0.0.1", "localhost"):
        (await fetcher.fetch(f"http://{host}:{site.port}/a.png")).close()
    for url in ("http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"):
        assert type(await refusal(fetcher, url)) is UrlNotAllowedError


async def test_a_name_for_loopback_is_not_loopback(site: Site) -> None:
    names = Names({"localhost.example": ["127.0.0.1"]})
    fetcher = Fetcher(fetching(fetch_allow_loopback=True, fetch_ports=[site.port]), resolve=names)
    url = f"http://localhost.example:{site.port}/"
    assert type(await refusal(fetcher, url)) is UrlNotAllowedError


# Redirects.


async def test_three_redirects_are_followed_and_a_fourth_is_not(
    fetcher: Fetcher, site: Site
) -> None:
    site.shows("/4", PHOTO)
    for hop in range(4):
        site.sends_on(f"/{hop}", f"/{hop + 1}")
    (await fetcher.fetch(site.url + "/1")).close()
    assert type(await refusal(fetcher, site.url + "/0")) is UrlUnreachableError


async def test_a_redirect_to_a_private_address_is_not_followed(
    fetcher: Fetcher, site: Site, other: Site
) -> None:
    other.shows("/secret", b"credentials")
    url = site.sends_on("/a.png", other.url + "/secret")
    assert type(await refusal(fetcher, url)) is UrlNotAllowedError
    assert other.requests == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://u:p@photos.example/", "http://127.1/", "gopher://x/"]
)
async def test_a_redirect_is_judged_like_a_url(fetcher: Fetcher, site: Site, location: str) -> None:
    assert type(await refusal(fetcher, site.sends_on("/a", location))) is UrlNotAllowedError


async def test_no_cookie_is_carried_to_the_next_hop(fetcher: Fetcher, site: Site) -> None:
    site.shows("/b", PHOTO)
    url = site.shows("/a", b"", "Location: /b", "Set-Cookie: session=1", status="302 Found")
    (await fetcher.fetch(url)).close()
    assert "ookie" not in site.requests[1]


async def test_a_redirect_without_a_location_is_unreachable(fetcher: Fetcher, site: Site) -> None:
    url = site.shows("/a", b"", status="302 Found")
    assert type(await refusal(fetcher, url)) is UrlStatusError


# TLS.


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
async def https(authority: trustme.CA) -> AsyncIterator[Site]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("photos.example").configure_cert(tls)
    async with open_site(tls) as site:
        yield site


@pytest.fixture
def trusting(authority: trustme.CA, names: Names, https: Site, site: Site) -> Fetcher:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    names.table["other.example"] = ["127.0.0.1"]
    ports = [https.port, site.port]
    return Fetcher(fetching(fetch_ports=ports), resolve=names, tls=tls)


async def test_https_is_checked_by_name_on_a_judged_address(trusting: Fetcher, https: Site) -> None:
    https.shows("/a.png", PHOTO)
    with await trusting.fetch(f"https://photos.example:{https.port}/a.png") as source:
        assert source.read() == PHOTO
    assert https.names == ["photos.example"]


async def test_a_certificate_for_another_name_is_unreachable(
    trusting: Fetcher, https: Site
) -> None:
    https.shows("/a.png", PHOTO)
    url = f"https://other.example:{https.port}/a.png"
    assert type(await refusal(trusting, url)) is UrlUnreachableError
    assert https.requests == []


async def test_a_certificate_of_an_unknown_authority_is_unreachable(
    names: Names, https: Site
) -> None:
    https.shows("/a.png", PHOTO)
    fetcher = Fetcher(fetching(fetch_ports=[https.port]), resolve=names)
    url = f"https://photos.example:{https.port}/a.png"
    assert type(await refusal(fetcher, url)) is UrlUnreachableError
    assert https.requests == []


async def test_https_does_not_lead_to_http(trusting: Fetcher, https: Site, site: Site) -> None:
    site.shows("/a.png", PHOTO)
    https.sends_on("/a.png", f"http://photos.example:{site.port}/a.png")
    url = f"https://photos.example:{https.port}/a.png"
    assert type(await refusal(trusting, url)) is UrlNotAllowedError
    assert site.requests == []


# What is said.


def said(exc: Exception) -> str:
    return words_for(exc, problem_for(exc))


async def test_the_caller_learns_unreachable_or_not_allowed_and_nothing_more(
    fetcher: Fetcher, site: Site
) -> None:
    site.says("/ssh", b"SSH-2.0-OpenSSH_9.9\r\n")
    assert said(await refusal(fetcher, site.url + "/ssh")) == "image_url is unreachable"
    rule = "only public addresses on port 80 or 443, without a password, redirects included"
    for url in (
        "http://10.0.0.1/",
        "http://photos.example:22/",
        "http://[::1]/",
        "http://a:b@c.d/",
    ):
        assert said(await refusal(fetcher, url)) == f"image_url is not allowed: {rule}"


async def test_the_status_of_a_server_that_may_be_visited_is_told(
    fetcher: Fetcher, site: Site
) -> None:
    url = site.shows("/403", b"", status="403 Forbidden")
    refused = await refusal(fetcher, url)
    assert problem_for(refused).code == "url_unreachable"
    assert said(refused) == "image_url leads to an answer of HTTP status 403 instead of a picture"


async def test_what_was_sent_under_another_name_is_refused_under_it(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError) as refused:
        await fetcher.fetch("http://10.0.0.1/", field="bg_image_url")
    assert said(refused.value).startswith("bg_image_url is not allowed")


async def test_the_log_has_the_reason_and_no_query(fetcher: Fetcher, site: Site) -> None:
    url = site.shows("/a.png", b"", status="403 Forbidden") + "?X-Signature=s3cret"
    with capture_logs() as logs:
        await refusal(fetcher, url)
    [line] = logs
    assert line["event"] == "source.refused"
    assert line["reason"] == "status 403"
    assert line["url"] == site.url + "/a.png"
    assert "s3cret" not in str(logs)
