"""How much and how long the fetcher takes from servers that mean no good."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import FetchError, OverloadedError, SourceTooLargeError, UrlUnreachableError
from gateway.fetching.addresses import IPAddress
from gateway.fetching.fetch import Fetcher
from tests.gateway.fetching.sites import PHOTO, ROOM, Names, Site, fetching, open_site, refusal


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest.fixture
def fetcher(site: Site) -> Fetcher:
    return Fetcher(fetching(fetch_allowed_hosts=[site.place]))


async def test_a_length_over_the_limit_is_refused_before_a_byte_of_it(
    fetcher: Fetcher, site: Site
) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 300001\r\n\r\n"
    site.says("/a", start, b"x" * 300_001, pause_s=5)
    assert type(await refusal(fetcher, site.url + "/a")) is SourceTooLargeError
    assert site.sent_bytes == len(start)


@pytest.mark.parametrize(
    "start", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"]
)
async def test_exactly_the_limit_is_taken(fetcher: Fetcher, site: Site, start: bytes) -> None:
    site.says("/a", start, b"x" * ROOM)
    with await fetcher.fetch(site.url + "/a") as source:
        assert source.size_bytes == ROOM


async def test_an_endless_body_is_cut_at_the_limit(fetcher: Fetcher, site: Site) -> None:
    site.says("/a", b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 50_000, is_endless=True)
    assert type(await refusal(fetcher, site.url + "/a")) is SourceTooLargeError
    assert site.sent_bytes < ROOM + 8_000_000  # the rest is what two sockets can hold


async def test_an_endless_chunked_body_is_cut_at_the_limit(fetcher: Fetcher, site: Site) -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    site.says("/a", start, b"2710\r\n" + b"x" * 10_000 + b"\r\n", is_endless=True)
    assert type(await refusal(fetcher, site.url + "/a")) is SourceTooLargeError


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"-ERR unknown command\r\n",
        b"\x00" * 100,
        b"",
    ],
)
async def test_an_answer_that_is_no_picture_is_unreachable(
    fetcher: Fetcher, site: Site, answer: bytes
) -> None:
    site.says("/a", answer)
    assert isinstance(await refusal(fetcher, site.url + "/a"), UrlUnreachableError)


async def test_bytes_beyond_the_length_are_not_read(fetcher: Fetcher, site: Site) -> None:
    site.says("/a", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more")
    with await fetcher.fetch(site.url + "/a") as source:
        assert source.read() == b"hello"


async def test_nobody_there_is_unreachable() -> None:
    fetcher = Fetcher(fetching(fetch_allowed_hosts=["127.0.0.1:1"]))
    assert type(await refusal(fetcher, "http://127.0.0.1:1/")) is UrlUnreachableError


async def seconds_to_refusal(fetcher: Fetcher, url: str) -> float:
    started_at = time.monotonic()
    assert type(await refusal(fetcher, url)) is UrlUnreachableError
    return time.monotonic() - started_at


async def test_each_way_of_being_slow_has_its_end(fetcher: Fetcher, site: Site) -> None:
    """Real times, all at once: header by drips, body by drips, silence, and endless promises."""
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
    site.answers["/silent"] = lambda _: asyncio.sleep(30)
    site.says("/drips-header", b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", pause_s=0.2, is_endless=True)
    site.says("/promises", b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.05, is_endless=True)
    site.says("/drips-body", start, b"x" * 1000, pause_s=0.1, is_endless=True)
    site.answers["/stops"] = stopping_after(start + b"x" * 100_000)
    paths = ("/silent", "/drips-header", "/promises", "/drips-body", "/stops")
    took_s = await asyncio.gather(*(seconds_to_refusal(fetcher, site.url + p) for p in paths))
    for seconds in took_s[:3]:
        assert 4.5 < seconds < 8  # the first byte of an answer
    for seconds in took_s[3:]:
        assert 1.5 < seconds < 4.5  # one window of the rate


def stopping_after(part: bytes) -> Callable[[asyncio.StreamWriter], Any]:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(30)

    return answer


async def test_the_whole_download_has_a_deadline(site: Site) -> None:
    fetcher = Fetcher(
        fetching(fetch_allowed_hosts=[site.place], fetch_deadline="PT0.5S", upload_bytes_max=10**8)
    )
    site.says("/a", b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 50_000, pause_s=0.05, is_endless=True)
    assert 0.4 < await seconds_to_refusal(fetcher, site.url + "/a") < 1.5


async def test_a_slow_resolver_counts_against_the_deadline() -> None:
    class Hanging(Names):
        async def __call__(self, name: str) -> list[IPAddress]:
            await asyncio.sleep(30)
            return await super().__call__(name)

    fetcher = Fetcher(fetching(fetch_deadline="PT0.3S"), resolve=Hanging({}))
    assert await seconds_to_refusal(fetcher, "http://photos.example/") < 1.5


async def test_one_download_too_many_is_refused_at_once(site: Site) -> None:
    fetcher = Fetcher(fetching(fetch_allowed_hosts=[site.place], fetch_concurrency_max=2))
    site.says("/a", b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 50_000, pause_s=0.3)
    downloads = [asyncio.create_task(fetcher.fetch(site.url + "/a", uuid4())) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(OverloadedError):
        await fetcher.fetch(site.url + "/a", uuid4())
    for download in downloads:
        (await download).close()
    (await fetcher.fetch(site.url + "/a")).close()


async def test_one_account_leaves_three_quarters_of_the_downloads_to_others(site: Site) -> None:
    fetcher = Fetcher(fetching(fetch_allowed_hosts=[site.place], fetch_concurrency_max=4))
    site.answers["/hangs"] = lambda _: asyncio.sleep(30)
    greedy, other = uuid4(), uuid4()
    hanging = [asyncio.create_task(fetcher.fetch(site.url + "/hangs", greedy)) for _ in range(9)]
    await asyncio.sleep(0.1)

    (await fetcher.fetch(site.shows("/a", PHOTO), other)).close()

    assert len([asked for asked in site.requests if "/hangs" in asked]) == 1
    for download in hanging:
        download.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_caller_who_leaves_frees_the_download(site: Site) -> None:
    fetcher = Fetcher(fetching(fetch_allowed_hosts=[site.place], fetch_concurrency_max=1))
    site.answers["/hangs"] = lambda _: asyncio.sleep(30)
    download = asyncio.create_task(fetcher.fetch(site.url + "/hangs"))
    await asyncio.sleep(0.05)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    (await fetcher.fetch(site.shows("/a", PHOTO))).close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\nLocation: "]),
    rest=st.binary(max_size=300),
)
async def test_whatever_a_server_answers_it_is_a_picture_or_a_refusal(
    fetcher: Fetcher, site: Site, head: bytes, rest: bytes
) -> None:
    site.says("/a", head + rest)
    try:
        (await fetcher.fetch(site.url + "/a")).close()
    except FetchError:
        return
