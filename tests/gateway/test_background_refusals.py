"""What is wrong with `bg_image_url` is said of `bg_image_url`, with the codes of any picture."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from httpx import AsyncClient

from tests.gateway.codia import assert_refused, upload
from tests.gateway.revid import assert_refused as assert_not_a_task
from tests.gateway.revid import submit
from tests.gateway.web import Customer, MakeClient, web_server

LINK = "bg_image_url"


@asynccontextmanager
async def nothing_there() -> AsyncIterator[str]:
    """Answer 404 to whatever is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_private_place_is_refused_under_the_name_it_was_sent_by(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    link = {LINK: "http://10.0.0.1/x.png"}
    at_once = await upload(client, customer, astronaut, **link)
    assert_refused(at_once, 400, 2003)
    task = await submit(client, customer, astronaut, **link)
    assert_not_a_task(task, 400, "url_not_allowed")
    for answer in (at_once, task):
        assert answer.json()["message"].startswith("bg_image_url is not allowed: only public")
    spaced = await upload(client, customer, astronaut, **{LINK: "https://example.com/a b.png"})
    assert spaced.json()["message"].startswith("bg_image_url is not allowed: a URL must be percent")


async def test_one_that_is_not_there_is_told_by_its_status(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with nothing_there() as place:
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await upload(client, customer, astronaut, **{LINK: f"http://{place}/x.png"})
    assert_refused(answer, 400, 2002)
    said = "bg_image_url leads to an answer of HTTP status 404 instead of a picture"
    assert answer.json()["message"] == said


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"Dear diary", (415, 2004, "unsupported_format", "Unsupported image format: unknown")),
        (b"GIF89a", (415, 2004, "unsupported_format", "Unsupported image format: gif")),
        (
            b"\x89PNG\r\n\x1a\n",
            (400, 2007, "unreadable_image", "The file is not a readable image"),
        ),
        (bytes(200_001), (413, 2005, "file_too_large", "File too large")),
    ],
)
async def test_one_that_is_no_picture_of_ours_has_the_code_of_any_such_file(
    make_client: MakeClient, astronaut: bytes, content: bytes, told: tuple[int, int, str, str]
) -> None:
    status, codia, revid, said = told
    async with web_server(content) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place], upload_bytes_max=200_000)
        link = {LINK: f"http://{place}/x.png"}
        at_once = await upload(client, customer, astronaut, **link)
        task = await submit(client, customer, astronaut, **link)
    assert_refused(at_once, status, codia)
    assert at_once.json()["message"].startswith(f"bg_image_url: {said}")
    assert_not_a_task(task, status, revid)
    assert f"bg_image_url: {said}" in task.json()["message"]


async def test_one_that_breaks_off_is_told_by_its_name_when_it_is_opened(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with web_server(astronaut[:20_000]) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await upload(client, customer, astronaut, **{LINK: f"http://{place}/x.jpg"})
    assert_refused(answer, 400, 2007)
    assert answer.json()["message"] == "bg_image_url: The file is not a readable image"
    account = (await client.get("/v1/account", headers=customer.bearer)).json()
    assert (account["credits"]["balance"], account["credits"]["held"]) == (250, 0)
