"""What the Codia dialect refuses: with which code, in which words, before what is read."""

import asyncio
import socket
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from httpx import AsyncClient, Response
from PIL import Image

from billing.posting import Balance
from gateway.app import House
from gateway.dialects.codia import CODES
from gateway.errors import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, PROBLEMS
from tests.gateway.codia import CALL, assert_refused, spend, trickle, upload
from tests.gateway.web import Customer, MakeClient, NewCustomer, ReadBalance


async def test_uploads_past_what_may_come_in_at_once_are_refused(
    make_client: MakeClient, astronaut: bytes
) -> None:
    client, customer = await make_client(upload_concurrency_max=1)
    is_sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        await is_sent.wait()
        yield astronaut + b"\r\n--b--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    slow = asyncio.create_task(client.post(CALL, headers=customer.bearer | form, content=slowly()))
    await asyncio.sleep(0.5)
    refused = await upload(client, customer, astronaut)
    is_sent.set()

    assert_refused(refused, 503, 5001)
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await slow).status_code == 200


def test_every_problem_has_a_code_and_no_two_share_one() -> None:
    codes = {problem.code for problem in (*PROBLEMS.values(), NOT_FOUND, METHOD_NOT_ALLOWED)}
    assert codes | {INTERNAL.code} == set(CODES)
    assert len(set(CODES.values())) == len(CODES)


async def test_no_key_and_keys_that_do_not_let_in(
    client: AsyncClient, customer: Customer, new_customer: NewCustomer
) -> None:
    body = {"image_url": "https://example.com/a.jpg"}
    missing = await client.post(CALL, json=body)
    assert_refused(missing, 401, 1001)
    assert missing.headers["WWW-Authenticate"].startswith("Bearer")
    for wrong in ({"Authorization": f"Basic {customer.key}"}, customer.x_api_key):
        elsewhere_sent = await client.post(CALL, json=body, headers=wrong)
        assert_refused(elsewhere_sent, 401, 1001)
        said = 'An API key is required: send it as "Authorization: Bearer KEY"'
        assert elsewhere_sent.json()["message"] == said
    made_up = {"Authorization": "Bearer made-up"}
    assert_refused(await client.post(CALL, json=body, headers=made_up), 401, 1002)
    elsewhere = await new_customer(ip_allow=["192.0.2.0/24"])
    assert_refused(await client.post(CALL, json=body, headers=elsewhere.bearer), 403, 1009)
    reader = await new_customer(scopes=["read"])
    unscoped = await client.post(CALL, json=body, headers=reader.bearer)
    assert_refused(unscoped, 403, 1009)
    assert unscoped.json()["message"] == "The API key lacks the scope for this call: cutout"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b"[" * 60_000, "JSON"),
        (b'{"crop": 1e999}', "JSON"),
        (b"{}", "image_url"),
        (b'{"image_url": 1}', "image_url"),
        (b'{"image_url": null}', "image_url"),
        (b'{"url": "https://example.com/a.jpg"}', "the picture's link goes in image_url"),
        (b'{"image_url": "https://example.com/a.jpg", "colour": "red"}', "colour"),
        (b'{"image_url": "https://example.com/a.jpg", "format": "tiff"}', "format"),
        (b'{"image_url": "https://example.com/a.jpg", "bg_color": "reddish"}', "bg_color"),
        (b'{"image_url": "https://example.com/a.jpg", "crop_margin": "5px"}', "crop_margin"),
    ],
)
async def test_a_body_that_cannot_be_understood_says_why(
    client: AsyncClient, customer: Customer, body: bytes, why: str
) -> None:
    headers = customer.bearer | {"Content-Type": "application/json"}
    answer = await client.post(CALL, headers=headers, content=body)
    assert_refused(answer, 400, 2001)
    assert why in answer.json()["message"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_of_another_kind_is_refused(
    client: AsyncClient, customer: Customer, kind: str | None
) -> None:
    headers = customer.bearer | ({"Content-Type": kind} if kind else {})
    answer = await client.post(CALL, headers=headers, content=b'{"image_url": "x"}')
    assert_refused(answer, 415, 2013)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary in here",
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\ncut o',
        b'--b\r\nContent-Disposition: form-data; name="crop"\r\n\r\nmaybe\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="format"\r\n\r\n\xff\r\n--b--\r\n',
        b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
    ],
)
async def test_a_form_that_is_none_is_refused(
    client: AsyncClient, customer: Customer, body: bytes
) -> None:
    headers = customer.bearer | {"Content-Type": "multipart/form-data; boundary=b"}
    assert_refused(await client.post(CALL, headers=headers, content=body), 400, 2001)


async def test_a_picture_comes_once(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    both = await upload(client, customer, astronaut, image_url="https://example.com/a.jpg")
    assert_refused(both, 400, 2001)
    files = [("image", astronaut), ("file", astronaut)]
    assert_refused(await client.post(CALL, headers=customer.bearer, files=files), 400, 2001)


async def test_what_is_no_picture_of_ours_is_refused_for_free(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    wide = BytesIO()
    Image.new("1", (15_000, 10)).save(wide, "PNG")
    assert_refused(await upload(client, customer, b"GIF89a" + bytes(64)), 415, 2004)
    assert_refused(await upload(client, customer, b"\x89PNG\r\n\x1a\n"), 400, 2007)
    assert_refused(await upload(client, customer, astronaut[:20_000]), 400, 2007)
    assert_refused(await upload(client, customer, wide.getvalue()), 413, 2006)
    assert_refused(await upload(client, customer, astronaut, model="u3net"), 400, 2009)
    assert await balance(customer) == Balance(250, 0, 0, 0, 0)


async def test_a_url_is_told_the_faults_of_its_syntax_and_nothing_of_its_address(
    make_client: MakeClient,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
    client, customer = await make_client(fetch_allowed_hosts=[place])

    async def call(url: str) -> Response:
        return await client.post(CALL, headers=customer.bearer, json={"image_url": url})

    not_allowed = await call("http://127.0.0.1/a.jpg")
    assert_refused(not_allowed, 400, 2003)
    assert not_allowed.json()["message"].startswith("image_url is not allowed: only public")
    for url in ("ftp://example.com/a.jpg", "product.jpg", "file:///etc/passwd"):
        malformed = await call(url)
        assert_refused(malformed, 400, 2003)
        assert "a URL must begin with http:// or https://" in malformed.json()["message"]
    spaced = await call("https://example.com/my photo.jpg")
    assert spaced.json()["message"].endswith("must be percent-encoded: %20 for a space")
    assert_refused(await call("data:image/png;base64,AAAA"), 400, 2003)
    unreachable = await call(f"http://{place}/a.jpg")
    assert_refused(unreachable, 400, 2002)
    assert unreachable.json()["message"] == "image_url is unreachable"


async def test_a_file_over_the_limit_is_refused_however_its_length_is_told(
    make_client: MakeClient,
) -> None:
    client, customer = await make_client(upload_bytes_max=100_000)
    slightly = await upload(client, customer, bytes(100_001))
    declared = await upload(client, customer, bytes(1_000_000))

    async def chunks() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        for _ in range(100):
            yield bytes(10_000)

    headers = customer.bearer | {"Content-Type": "multipart/form-data; boundary=b"}
    chunked = await client.post(CALL, headers=headers, content=chunks())
    for answer in (slightly, declared, chunked):
        assert_refused(answer, 413, 2005)


async def test_a_json_body_has_a_limit_of_its_own(client: AsyncClient, customer: Customer) -> None:
    body = {"image_url": "https://example.com/" + "a" * 70_000}
    assert_refused(await client.post(CALL, headers=customer.bearer, json=body), 413, 2005)


async def test_a_call_that_cannot_be_paid_is_refused_before_its_upload_is_read(
    client: AsyncClient, customer: Customer, house: House
) -> None:
    await spend(house, customer, 230)
    answer, pieces_read = await trickle(client, customer)
    by_url = await client.post(
        CALL, headers=customer.bearer, json={"image_url": "http://10.0.0.1/"}
    )

    assert_refused(answer, 402, 1004)
    assert answer.json()["message"] == "Insufficient credits: 25 needed, 20 available"
    assert pieces_read <= 1
    assert_refused(by_url, 402, 1004)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CALL, 405, 2011),
        ("PUT", CALL, 405, 2011),
        ("POST", "/v1/open", 404, 2010),
        ("POST", "/v1/open/remove_background", 404, 2010),
        ("POST", "/r/x.png", 405, 2011),
    ],
)
async def test_unknown_paths_and_methods_are_refused_in_this_dialects_shape(
    client: AsyncClient, method: str, path: str, status: int, code: int
) -> None:
    answer = await client.request(method, path)
    assert_refused(answer, status, code)
    assert ("Allow" in answer.headers) == (status == 405)
