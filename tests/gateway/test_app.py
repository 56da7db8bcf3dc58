"""What holds for every call, whatever the dialect: ids, limits, order, shapes, one log line."""

import asyncio
import json
from collections.abc import Callable
from uuid import uuid4

import pytest
from httpx import AsyncClient, Response
from structlog.testing import capture_logs

from billing import errors as billing_errors
from core import errors as core_errors
from gateway import errors
from gateway.app import create_app
from gateway.dialects.codia import CODES
from gateway.dialects.shapes import dialect_of
from gateway.settings import Settings
from tests.gateway.web import Customer, MakeClient, NewCustomer, living

CODIA = "/v1/open/remove_bg"
REVID = "/paid/image/remove/background"
KEYED_CALLS = [("POST", CODIA), ("POST", REVID), ("GET", "/v1/account")]


def keys_of(answer: Response) -> set[str]:
    return set(answer.json())


# Ids and logs -------------------------------------------------------------------------------------


async def test_a_request_id_comes_back(client: AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"X-Request-Id": "order-1042/photo:3"})
    assert answer.headers["X-Request-Id"] == "order-1042/photo:3"


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", 'a"b', "é"])
async def test_an_id_that_should_not_stand_in_a_log_is_replaced(
    client: AsyncClient, sent: str
) -> None:
    answer = await client.get("/health/live", headers={b"X-Request-Id": sent.encode("latin-1")})
    assert answer.headers["X-Request-Id"] != sent
    assert len(answer.headers["X-Request-Id"]) == 32


async def test_one_line_says_what_a_request_was_without_a_secret_in_it(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    with capture_logs() as lines:
        answer = await client.post(CODIA, headers=customer.bearer, files={"image": astronaut})
        link = answer.json()["data"]["image_url"].removeprefix("https://cutout.test")
        await client.get(link)

    call, download = [line for line in lines if line["event"] == "request.finished"]
    assert call["status"] == 200
    assert (call["dialect"], call["code"], call["charged_credits"]) == ("codia", "ok", 25)
    assert call["ms"] > 0
    assert download["route"] == "/r/{filename}"
    text = json.dumps(lines, default=str)
    assert customer.key not in text
    assert "signature=" not in text


async def test_a_refusal_says_its_code_in_the_log(client: AsyncClient) -> None:
    with capture_logs() as lines:
        await client.post(CODIA, json={"image_url": "x"})
    (line,) = [line for line in lines if line["event"] == "request.finished"]
    assert (line["status"], line["code"]) == (401, "missing_key")


async def test_a_bug_is_logged_with_its_trace_and_answered_without_it(
    client: AsyncClient, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr("gateway.cutouts.Cutouts.run", break_down)
    with capture_logs() as lines:
        answer = await client.post(CODIA, headers=customer.bearer, files={"image": b"x"})

    assert answer.status_code == 500
    assert answer.json() == {"code": 5000, "message": "Internal error", "data": None}
    (line,) = [line for line in lines if line["event"] == "request.failed"]
    assert isinstance(line["exc_info"], ZeroDivisionError)


SAMPLES: list[Exception] = [
    errors.MissingKeyError(),
    errors.MissingKeyError("so"),
    billing_errors.UnknownKeyError(),
    billing_errors.AccountNotFoundError(uuid4()),
    billing_errors.KeyRevokedError(),
    billing_errors.KeyAddressError(),
    billing_errors.KeyScopeError("cutout"),
    billing_errors.AccountSuspendedError("suspended"),
    billing_errors.InsufficientCreditsError(needed=25, available=0),
    billing_errors.KeyBudgetError(needed=25, available=0),
    billing_errors.TooManyAtOnceError(4),
    errors.RateLimitedError(2),
    errors.IdempotencyMismatchError(),
    errors.IdempotencyConflictError(),
    errors.InvalidRequestError("field"),
    errors.ContentTypeError("application/json"),
    core_errors.InvalidOptionError("crop", "no"),
    errors.UrlUnreachableError(),
    errors.UrlNotAllowedError(),
    errors.UrlMalformedError("must begin so"),
    core_errors.UnsupportedFormatError("gif"),
    core_errors.TooManyFramesError(3),
    errors.SourceTooLargeError(1),
    core_errors.ImageTooLargeError(1, 100_000, "too thin"),
    core_errors.UnreadableImageError("broken"),
    core_errors.NoForegroundError(0.1),
    core_errors.UnknownModelError("u3net"),
    core_errors.WeightsNotInstalledError("u2net"),
    core_errors.WeightsCorruptError("u2net"),
    core_errors.ProviderUnavailableError("CUDA", "CPU"),
    errors.OverloadedError(3),
    errors.StorageUnavailableError(),
    errors.DeadlineExceededError(),
    errors.LeaseLostError(),
    errors.JobNotFoundError(),
    errors.JobBegunError(),
    errors.LinkInvalidError(),
    errors.ResultExpiredError(),
    billing_errors.HoldNotOpenError(uuid4(), "captured"),
    billing_errors.DuplicateOperationError("hold", "x"),
    billing_errors.InvalidOperationError("no"),
]


def test_each_kind_of_refusal_is_among_the_samples() -> None:
    assert set(errors.PROBLEMS) <= {type(exc) for exc in SAMPLES}


async def test_every_refusal_is_answered_in_each_dialects_shape(
    client: AsyncClient, new_customer: NewCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await new_customer(rate_per_minute=6000, burst=500)
    for exc in SAMPLES:

        async def refuse(*_: object, exc: Exception = exc) -> None:
            raise exc

        monkeypatch.setattr("gateway.cutouts.Cutouts.run", refuse)
        monkeypatch.setattr("gateway.cutouts.Cutouts.submit", refuse)
        problem = errors.problem_for(exc)
        files = {"file": b"x"}
        fields = {"model": "cutout-lite"}
        codia = await client.post(CODIA, headers=customer.bearer, files=files, data=fields)
        revid = await client.post(REVID, headers=customer.x_api_key, files=files, data=fields)
        assert codia.status_code == revid.status_code == problem.status, exc
        assert codia.json()["code"] == CODES[problem.code]
        assert revid.json()["error"] == problem.code
        for answer in (codia, revid):
            assert "RateLimit" in answer.headers
            assert type(exc).__name__ not in answer.text
            is_worth_waiting = problem.retryable and problem.status in {409, 429, 503}
            assert ("Retry-After" in answer.headers) == is_worth_waiting, exc


# Headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), KEYED_CALLS)
async def test_a_keyed_call_tells_its_limit_whatever_the_answer(
    client: AsyncClient, customer: Customer, method: str, path: str
) -> None:
    answer = await client.request(method, path, headers=customer.bearer | customer.x_api_key)
    assert answer.headers["RateLimit-Policy"] == '"default";q=10;w=10'
    assert answer.headers["RateLimit"] == '"default";r=9;t=1'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers


@pytest.mark.parametrize(("method", "path"), KEYED_CALLS)
async def test_over_the_limit_the_wait_is_true(
    client: AsyncClient, new_customer: NewCustomer, method: str, path: str
) -> None:
    customer = await new_customer(rate_per_minute=60, burst=1)
    headers = customer.bearer | customer.x_api_key
    await client.request(method, path, headers=headers)

    refused = await client.request(method, path, headers=headers)

    assert refused.status_code == 429
    assert refused.headers["RateLimit"].startswith('"default";r=0')
    wait_s = int(refused.headers["Retry-After"])
    assert wait_s == 1
    await asyncio.sleep(wait_s)
    assert (await client.request(method, path, headers=headers)).status_code != 429


async def test_a_refused_rate_is_said_in_each_dialects_words(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    customer = await new_customer(rate_per_minute=1, burst=1)
    await client.get("/v1/account", headers=customer.bearer)
    codia = await client.post(CODIA, headers=customer.bearer, json={})
    revid = await client.post(REVID, headers=customer.x_api_key)
    own = await client.get("/v1/account", headers=customer.bearer)
    assert (codia.json()["code"], revid.json()["error"], own.json()["code"]) == (
        1005,
        "rate_limited",
        "rate_limited",
    )
    assert int(codia.headers["Retry-After"]) in {59, 60}


# The order of refusals ----------------------------------------------------------------------------


async def test_a_body_that_is_too_long_by_its_own_word_is_refused_before_all_else(
    make_client: MakeClient,
) -> None:
    client, _ = await make_client(upload_bytes_max=1000)
    for path in (CODIA, REVID):
        answer = await client.post(path, files={"file": bytes(1_000_000)})
        assert answer.status_code == 413


async def test_whoever_brings_no_good_key_is_counted_by_address(make_client: MakeClient) -> None:
    client, customer = await make_client(ip_rate_per_minute=3)
    address = {"client": ("198.51.100.7", 1)}
    client._transport.client = address["client"]  # type: ignore[attr-defined]
    statuses = [(await client.post(CODIA, headers={"Authorization": "Bearer x"})).status_code]
    statuses += [
        (await client.post(REVID)).status_code,
        (await client.get("/api/get/x")).status_code,
    ]
    statuses += [(await client.get("/v1/account")).status_code]
    assert statuses == [401, 401, 404, 429]
    # A good key from the same address is not made to suffer for it.
    good = await client.get("/v1/account", headers=customer.bearer)
    assert good.status_code == 200


async def test_the_key_comes_before_the_form_and_the_rate_before_the_form(
    client: AsyncClient, new_customer: NewCustomer
) -> None:
    broken = {"Content-Type": "application/json"}
    assert (await client.post(CODIA, headers=broken, content=b"{")).status_code == 401
    customer = await new_customer(rate_per_minute=1, burst=1)
    await client.get("/v1/account", headers=customer.bearer)
    answer = await client.post(CODIA, headers=customer.bearer | broken, content=b"{")
    assert answer.status_code == 429


# Shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v1/open/nothing", {"code", "message", "data"}),
        ("/v1/open", {"code", "message", "data"}),
        ("/r/nothing", {"code", "message", "data"}),
        ("/paid/nothing", {"success", "status", "message", "error"}),
        ("/api/nothing", {"success", "status", "message", "error"}),
        ("/output/nothing", {"success", "status", "message", "error"}),
        ("/nothing", {"type", "title", "status", "detail", "code"}),
        ("/v1/openly", {"type", "title", "status", "detail", "code"}),
    ],
)
async def test_an_unknown_path_is_refused_in_the_shape_of_its_prefix(
    client: AsyncClient, path: str, keys: set[str]
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert keys_of(answer) == keys


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", CODIA), ("GET", REVID), ("PUT", "/v1/account")]
)
async def test_an_unknown_method_says_which_there_are(
    client: AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert {"GET", "POST"} & set(answer.headers["Allow"].split(", "))
    assert "application/" in answer.headers["Content-Type"]


async def test_a_host_header_that_is_none_is_refused(client: AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"Host": "a b"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/open/remove_bg", "codia"),
        ("/v1/open", "codia"),
        ("/v1/openly", "own"),
        ("/r/x", "codia"),
        ("/reports", "own"),
        ("/paid", "revid"),
        ("/api/get/x", "revid"),
        ("/output/x", "revid"),
        ("/", "own"),
    ],
)
def test_the_dialect_is_told_by_the_path(path: str, dialect: str) -> None:
    assert dialect_of(path) == dialect


# The house ----------------------------------------------------------------------------------------


async def test_links_begin_with_the_setting_and_never_with_the_host_header(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    headers = customer.bearer | {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    answer = await client.post(CODIA, headers=headers, files={"image": astronaut})
    assert answer.json()["data"]["image_url"].startswith("https://cutout.test/r/")


async def test_without_redis_calls_are_answered(make_client: MakeClient, astronaut: bytes) -> None:
    client, customer = await make_client(redis_url="redis://127.0.0.1:1/0")
    answer = await client.post(CODIA, headers=customer.bearer, files={"image": astronaut})
    assert answer.status_code == 200
    assert "RateLimit" in answer.headers


async def test_without_the_database_a_call_is_asked_to_come_again(
    customer: Customer, make_settings: Callable[..., Settings]
) -> None:
    away = make_settings(database_url="postgresql://nobody:x@127.0.0.1:1/none")
    async with living(create_app(away)) as client:
        for path, headers in ((CODIA, customer.bearer), (REVID, customer.x_api_key)):
            answer = await client.post(path, headers=headers)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
