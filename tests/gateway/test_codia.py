"""The Codia contract, over the whole stack: what its document prints, and what it leaves open."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from PIL import Image
from sqlalchemy import func, select, update

from billing.credits import adjust
from billing.posting import Balance
from gateway.app import House
from gateway.dialects.codia import CODES
from gateway.errors import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, PROBLEMS
from gateway.links import Links
from gateway.tables import Job
from tests.gateway.web import Customer, MakeClient, NewCustomer, ReadBalance, web_server

GOLDEN = Path(__file__).parent / "golden"
CALL = "/v1/open/remove_bg"
HOST = "https://cutout.test"
BESIDE = {"model", "confidence", "reasons", "warnings"}


def golden() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / "codia_ok.json").read_text())
    return document


async def upload(
    client: AsyncClient, customer: Customer, source: bytes, name: str = "image", **fields: str
) -> Response:
    files = {name: ("photo.jpg", source)}
    return await client.post(CALL, headers=customer.bearer, files=files, data=fields)


async def spend(house: House, customer: Customer, amount: int) -> None:
    async with house.sessions.begin() as db:
        await adjust(
            db, customer.account_id, amount=-amount, ref="spent", actor="test", reason="spent"
        )


def path_of(answer: Response) -> str:
    url: str = answer.json()["data"]["image_url"]
    assert url.startswith(f"{HOST}/r/")
    return url.removeprefix(HOST)


def assert_refused(answer: Response, status: int, code: int) -> None:
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code)
    assert document.keys() == {"code", "message", "data"}
    assert document["message"]
    assert document["data"] is None


# The document -------------------------------------------------------------------------------------


async def test_a_url_goes_in_and_the_contracts_answer_comes_out(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with web_server(astronaut) as (place, asked):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await client.post(
            CALL, headers=customer.bearer, json={"image_url": f"http://{place}/product.jpg"}
        )

    document = answer.json()
    assert answer.status_code == 200
    assert {name: document[name] for name in golden()} == golden() | {"data": document["data"]}
    assert list(document["data"]) == list(golden()["data"])
    assert set(document) == set(golden()) | BESIDE
    assert answer.headers["X-Credits-Charged"] == "25"
    assert answer.headers["X-Credits-Remaining"] == "225"
    assert asked[0].startswith(b"GET /product.jpg ")

    picture = await client.get(path_of(answer))
    cutout = Image.open(BytesIO(picture.content))
    assert (cutout.format, cutout.mode, cutout.size) == ("PNG", "RGBA", (512, 512))


@pytest.mark.parametrize("name", ["image", "file"])
async def test_a_picture_may_be_uploaded_instead(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance, name: str
) -> None:
    answer = await upload(client, customer, astronaut, name)

    assert answer.status_code == 200
    assert set(answer.json()) == set(golden()) | BESIDE
    assert await balance(customer) == Balance(225, 0, 25, 0, 0)


async def test_options_are_form_fields_of_an_upload(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await upload(client, customer, astronaut, format="webp", bg_color="#111")

    picture = await client.get(path_of(answer))
    assert picture.headers["Content-Type"] == "image/webp"
    cutout = Image.open(BytesIO(picture.content))
    assert cutout.mode == "RGB"
    assert cutout.getpixel((256, 2)) == pytest.approx((17, 17, 17), abs=3)


async def test_a_background_may_be_named_by_its_url(
    make_client: MakeClient, astronaut: bytes
) -> None:
    green = BytesIO()
    Image.new("RGB", (64, 64), "#00ff00").save(green, "PNG")
    async with web_server(green.getvalue()) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        answer = await upload(client, customer, astronaut, bg_image_url=f"http://{place}/green.png")

    cutout = Image.open(BytesIO((await client.get(path_of(answer))).content)).convert("RGB")
    assert cutout.getpixel((256, 2)) == (0, 255, 0)


# The link -----------------------------------------------------------------------------------------


async def test_the_link_needs_no_key_and_is_private(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await client.get(path_of(await upload(client, customer, astronaut)))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"].startswith("private, max-age=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "image/png"


async def test_a_forged_link_is_not_found(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    bare, _, query = path.partition("?")
    expires, _, signature = query.partition("&")
    other = bare.replace(bare[3:11], "00000000")
    for forged in (
        bare,
        f"{bare}?{expires}",
        f"{bare}?{expires}&signature=x",
        f"{bare}?{expires}9&{signature}",
        f"{other}?{query}",
        f"{bare.replace('.png', '.webp')}?{query}",
        "/r/nothing",
        "/r",
    ):
        assert_refused(await client.get(forged), 404, 2010)


async def test_a_link_past_its_time_is_gone(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    secret = house.settings.link_secret.get_secret_value()
    an_hour_ago = Links(HOST, secret, clock=lambda: time.time() - 3600)
    job_id = UUID(path[len("/r/") :].partition(".")[0])
    old = an_hour_ago.sign(job_id, "png", timedelta(minutes=59)).removeprefix(HOST)
    assert_refused(await client.get(old), 410, 2012)


async def test_a_link_ends_when_the_setting_says(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await upload(client, customer, astronaut)
    expires_at = int(path_of(answer).partition("expires=")[2].partition("&")[0])
    assert 3550 < expires_at - time.time() < 3605


async def test_a_link_ends_with_its_result_at_the_latest(
    make_client: MakeClient, astronaut: bytes
) -> None:
    client, customer = await make_client(link_ttl=timedelta(days=300))
    answer = await upload(client, customer, astronaut)
    account = (await client.get("/v1/account", headers=customer.bearer)).json()

    expires_at = int(path_of(answer).partition("expires=")[2].partition("&")[0])

    assert expires_at - time.time() <= account["limits"]["result_seconds"] + 1
    assert account["limits"]["link_seconds"] == account["limits"]["result_seconds"]


async def test_a_browser_keeps_a_picture_no_longer_than_its_link(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await client.get(path_of(await upload(client, customer, astronaut)))
    assert 0 < int(answer.headers["Cache-Control"].partition("max-age=")[2]) <= 3600


async def test_a_result_that_storage_lacks_is_gone_for_head_as_for_get(
    client: AsyncClient, customer: Customer, astronaut: bytes, house: House
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    assert (await client.head(path)).status_code == 200
    async with house.sessions.begin() as db:
        key = await db.scalar(select(Job.result_key).where(Job.account_id == customer.account_id))
    await house.cutouts.storage.delete(str(key))
    assert (await client.head(path)).status_code == (await client.get(path)).status_code == 410


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


async def test_a_purged_result_is_gone_behind_a_good_link(
    client: AsyncClient, customer: Customer, astronaut: bytes, house: House
) -> None:
    path = path_of(await upload(client, customer, astronaut))
    async with house.sessions.begin() as db:
        await db.execute(
            update(Job)
            .where(Job.account_id == customer.account_id)
            .values(result_expires_at=func.now() - timedelta(seconds=1))
        )
    assert_refused(await client.get(path), 410, 2012)


# Idempotency --------------------------------------------------------------------------------------


async def test_a_replay_is_the_first_answer_to_the_letter_and_is_charged_once(
    make_client: MakeClient, astronaut: bytes
) -> None:
    async with web_server(astronaut) as (place, asked):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        headers = customer.bearer | {"Idempotency-Key": "once"}
        body = {"image_url": f"http://{place}/a.jpg"}
        first = await client.post(CALL, headers=headers, json=body)
        again = await client.post(CALL, headers=headers, json=body)
        other = await client.post(CALL, headers=headers, json=body | {"format": "webp"})

    assert first.content == again.content
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Credits-Remaining"] == "225"
    assert len(asked) == 1  # a replay fetches nothing
    assert_refused(other, 422, 1007)


async def test_a_replay_is_answered_though_nothing_is_left_to_pay_with(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes
) -> None:
    headers = customer.bearer | {"Idempotency-Key": "first"}
    files = {"image": ("a.jpg", astronaut)}
    first = await client.post(CALL, headers=headers, files=files)
    await spend(house, customer, 225)

    again = await client.post(CALL, headers=headers, files=files)
    fresh = await upload(client, customer, astronaut)

    assert again.json() == first.json()
    assert_refused(fresh, 402, 1004)


async def test_a_request_that_still_runs_is_a_conflict(
    client: AsyncClient, customer: Customer, big_picture: bytes
) -> None:
    headers = customer.bearer | {"Idempotency-Key": "running"}
    files = {"image": ("a.jpg", big_picture)}
    answers = await asyncio.gather(
        *(client.post(CALL, headers=headers, files=files) for _ in range(2))
    )
    ok, conflict = sorted(answers, key=lambda answer: answer.status_code)
    assert ok.status_code == 200
    assert_refused(conflict, 409, 1008)
    assert int(conflict.headers["Retry-After"]) >= 1


async def test_an_idempotency_key_has_a_length(client: AsyncClient, customer: Customer) -> None:
    headers = customer.bearer | {"Idempotency-Key": "x" * 256}
    assert_refused(await client.post(CALL, headers=headers, json={"image_url": "x"}), 400, 2001)


# Refusals -----------------------------------------------------------------------------------------


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
    assert_refused(await client.post(CALL, json=body, headers=reader.bearer), 403, 1009)


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
    assert not_allowed.json()["message"] == "image_url is not allowed"
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
    chunks_read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal chunks_read
        for _ in range(10):
            chunks_read += 1
            yield bytes(10_000)

    headers = customer.bearer | {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await client.post(CALL, headers=headers, content=chunks())
    by_url = await client.post(
        CALL, headers=customer.bearer, json={"image_url": "http://10.0.0.1/"}
    )

    assert_refused(answer, 402, 1004)
    assert answer.json()["message"] == "Insufficient credits: 25 needed, 20 available"
    assert chunks_read <= 1
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


async def test_a_test_key_works_for_nothing(
    client: AsyncClient, new_customer: NewCustomer, astronaut: bytes, balance: ReadBalance
) -> None:
    customer = await new_customer(env="test")
    answer = await upload(client, customer, astronaut)
    assert answer.status_code == 200
    assert answer.headers["X-Credits-Charged"] == "0"
    assert (await balance(customer)).available == 250
