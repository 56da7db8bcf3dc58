"""Liveness, readiness and metrics, with the real dependencies there and away."""

import re
from collections.abc import Callable

from httpx import AsyncClient

from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.web import Customer, MakeClient, living


async def test_a_gateway_with_all_it_needs_is_ready(client: AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}
    ready = await client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "inference": "ok"},
    }


async def test_without_redis_it_is_degraded_and_still_ready(make_client: MakeClient) -> None:
    client, _ = await make_client(redis_url="redis://127.0.0.1:1/0")
    ready = await client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert ready.json()["checks"]["redis"] == "away"


async def test_without_the_database_it_is_alive_and_not_ready(
    make_settings: Callable[..., Settings],
) -> None:
    away = make_settings(database_url="postgresql://nobody:secret@127.0.0.1:1/none")
    async with living(create_app(away)) as client:
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "away"
        assert "secret" not in ready.text
        assert (await client.get("/metrics")).status_code == 200


async def test_metrics_count_what_was_done(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    call = "/v1/open/remove_bg"
    await client.post(call, headers=customer.bearer, files={"image": astronaut})
    await client.post(call, headers=customer.bearer, files={"image": b"GIF89a"})
    await client.post("/paid/image/remove/background", headers=customer.x_api_key)

    answer = await client.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert sample(answer.text, 'requests_total{code="ok",dialect="codia",status="200"}') == 1
    refused = 'requests_total{code="unsupported_format",dialect="codia",status="415"}'
    assert sample(answer.text, refused) == 1
    assert sample(answer.text, "credits_captured_total") == 25
    assert sample(answer.text, 'request_seconds_count{dialect="codia"}') == 2
    assert sample(answer.text, 'stage_seconds_count{stage="segment"}') == 1
    assert sample(answer.text, "admission_waiting") == 0
    assert sample(answer.text, 'jobs{state="queued"}') >= 0
    assert customer.key not in answer.text
    assert str(customer.account_id) not in answer.text


async def test_two_apps_in_one_process_count_apart(
    client: AsyncClient, make_client: MakeClient
) -> None:
    other, _ = await make_client()
    await client.get("/nothing")
    line = 'requests_total{code="not_found",dialect="own",status="404"}'
    assert sample((await client.get("/metrics")).text, line) == 1
    assert line not in (await other.get("/metrics")).text


def sample(text: str, name: str) -> float:
    found = re.search(rf"^cutout_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])
