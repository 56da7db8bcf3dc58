"""Webhooks at the console: the secret, the alert URL, what was told and telling it again."""

from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from playwright.async_api import expect
from sqlalchemy import func, select

from billing.staff_tables import AuditEvent
from gateway.app import House
from gateway.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from gateway.webhooks.signing import derive_secret, master_of, written
from tests.gateway.console.test_keys import actor_of, audit_of
from tests.gateway.console.visitors import come_in, new_customer, signed_in
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import Customer

HERE = "/console/webhooks"


async def failed_delivery(house: House, customer: Customer) -> UUID:
    """Write an alert that was told to nobody, twice."""
    delivery = WebhookDelivery(
        id=uuid4(),
        account_id=customer.account_id,
        kind="credits.threshold_crossed",
        url="https://hooks.example.com/cutout",
        facts={"percent": 80, "account_id": str(customer.account_id)},
        state="failed",
        attempt=2,
        tries=2,
        finished_at=func.now(),
    )
    async with house.sessions.begin() as db:
        db.add(delivery)
        await db.flush()
        for n, outcome, status in ((1, "timeout", None), (2, "status", 503)):
            db.add(
                WebhookAttempt(
                    delivery_id=delivery.id, number=n, outcome=outcome, status=status, ms=1234
                )
            )
    return delivery.id


async def endpoint_of(house: House, customer: Customer) -> WebhookEndpoint | None:
    async with house.sessions() as db:
        return await db.get(WebhookEndpoint, customer.account_id)


def secret_of(house: House, customer: Customer, version: int) -> str:
    return written(derive_secret(master_of(house.settings), customer.account_id, version))


async def test_the_secret_is_shown_when_asked_for_and_that_is_noted(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    assert "whsec_" not in (await guest.get(HERE)).text
    page = await guest.send(f"{HERE}/secret")
    assert secret_of(house, customer, 1) in page.text
    assert page.headers["cache-control"] == "no-store"
    assert await audit_of(house, customer) == [
        (await actor_of(house, customer), "webhook.show_secret")
    ]


async def test_a_rotation_keeps_the_former_secret_and_a_second_one_asks_first(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    assert (await guest.send(f"{HERE}/rotate", grace="24")).status_code == 303
    shown = (await guest.send(f"{HERE}/secret")).text
    assert shown.index(secret_of(house, customer, 2)) < shown.index(secret_of(house, customer, 1))
    refused = await guest.send(f"{HERE}/rotate", grace="24")
    assert refused.status_code == 409
    assert "would be dropped" in refused.text
    assert (await guest.send(f"{HERE}/rotate", grace="24", force="1")).status_code == 303
    endpoint = await endpoint_of(house, customer)
    assert endpoint is not None
    assert endpoint.secret_version == 3
    assert (await guest.send(f"{HERE}/rotate", grace="9999")).status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        *("not a url", "ftp://example.com/x", "javascript:alert(1)"),
        *("http://10.0.0.1/x", "http://127.0.0.1/x", "http://[::1]/", "https://example.com:22/"),
        "https://example.com/" + "x" * 2_000,
    ],
)
async def test_alerts_go_only_where_webhooks_may(
    client: AsyncClient, house: House, url: str
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    answer = await guest.send(f"{HERE}/alerts", alert_url=url)
    assert answer.status_code == 422
    assert "“Alert URL” " in answer.text
    assert f'value="{url}"' in answer.text, "what was typed is kept"
    assert "Delivery log" in answer.text, "and so is the page"
    assert await endpoint_of(house, customer) is None


async def test_the_trail_keeps_where_alerts_go_and_no_secret_of_the_url(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house)
    guest = await signed_in(client, customer)
    for url, told in (
        ("https://hooks.example.com/T0/s3cret?token=s3cret", "The alert URL is saved."),
        ("", "The alert URL is removed"),
    ):
        done = await guest.send(f"{HERE}/alerts", alert_url=url)
        assert done.status_code == 303
        assert told in (await guest.get(done.headers["location"])).text
    async with house.sessions() as db:
        events = await db.scalars(
            select(AuditEvent.after)
            .where(AuditEvent.account_id == customer.account_id)
            .where(AuditEvent.action == "webhook.set_alert_url")
            .order_by(AuditEvent.seq)
        )
        assert list(events) == [{"alert_host": "hooks.example.com"}, {"alert_host": None}]


async def test_another_accounts_deliveries_are_not_there(client: AsyncClient, house: House) -> None:
    delivery_id = await failed_delivery(house, await new_customer(house))
    guest = await signed_in(client, await new_customer(house))
    assert str(delivery_id) not in (await guest.get(HERE)).text
    assert (await guest.get(f"{HERE}/{delivery_id}")).status_code == 404
    assert (await guest.send(f"{HERE}/{delivery_id}/replay")).status_code == 404
    async with house.sessions() as db:
        assert (await db.get_one(WebhookDelivery, delivery_id)).state == "failed"


async def test_the_log_is_read_page_by_page(
    client: AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.console.webhooks.ROWS_MAX", 2)
    customer = await new_customer(house)
    told = [await failed_delivery(house, customer) for _ in range(3)]
    guest = await signed_in(client, customer)
    first = (await guest.get(f"{HERE}?state=failed")).text
    older = first.split('rel="next"', maxsplit=1)[0].rsplit('href="', maxsplit=1)[1].split('"')[0]
    second = (await guest.get(older.replace("&amp;", "&"))).text
    assert [str(one) in first for one in told] == [False, True, True]
    assert [str(one) in second for one in told] == [True, False, False]


async def test_a_key_without_the_scope_may_look_and_not_manage(
    client: AsyncClient, house: House
) -> None:
    customer = await new_customer(house, scopes=["read"])
    delivery_id = await failed_delivery(house, customer)
    guest = await signed_in(client, customer)
    page = await guest.get(f"{HERE}/{delivery_id}")
    assert "another answer than 2xx" in page.text
    assert f"msg_{delivery_id.hex}" in page.text, "as the receiver got it"
    assert "Tell it again" not in page.text
    for path in ("secret", "rotate", "alerts", f"{delivery_id}/replay"):
        assert (await guest.send(f"{HERE}/{path}", grace="24")).status_code == 403
    assert await endpoint_of(house, customer) is None


@needs_chromium
@pytest.mark.browser
class TestInABrowser:
    async def test_a_delivery_is_looked_at_and_told_again(self, visit: Visit, house: House) -> None:
        customer = await new_customer(house)
        delivery_id = await failed_delivery(house, customer)
        page = visit.page
        await come_in(visit, customer)
        await page.get_by_role("link", name="Webhooks").click()
        await page.get_by_label("State").select_option("failed")
        await page.get_by_role("link", name="credits.threshold_crossed").click()
        await expect(page.get_by_role("row").nth(1)).to_contain_text("no answer in time")
        await expect(page.get_by_role("row").nth(2)).to_contain_text("503")
        await expect(page.get_by_text('"percent": 80')).to_be_visible()
        await visit.check_accessible()
        await page.get_by_role("button", name="Tell it again").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("pending")
        async with house.sessions() as db:
            assert (await db.get_one(WebhookDelivery, delivery_id)).state == "pending"
            objects = await db.scalars(
                select(AuditEvent.object).where(
                    AuditEvent.account_id == customer.account_id,
                    AuditEvent.action == "webhook.replay",
                )
            )
            assert list(objects) == [f"webhook_delivery {delivery_id}"]

    async def test_alerts_are_sent_elsewhere_and_the_secret_is_rotated(
        self, visit: Visit, house: House
    ) -> None:
        customer = await new_customer(house)
        page = visit.page
        await come_in(visit, customer)
        await visit.open(HERE)
        await page.get_by_label("Alert URL").fill("https://hooks.example.com/alerts")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_label("Alert URL")).to_have_value(
            "https://hooks.example.com/alerts"
        )
        await page.get_by_role("button", name="Rotate the secret").click()
        await expect(page.get_by_text("signs along until")).to_be_visible()
        await visit.check_accessible()
        endpoint = await endpoint_of(house, customer)
        assert endpoint is not None
        assert endpoint.alert_url == "https://hooks.example.com/alerts"
        assert endpoint.secret_version == 2
        await page.get_by_role("button", name="Show the secret").click()
        await expect(page.locator("#secret")).to_have_text(secret_of(house, customer, 2))
        await visit.check_accessible()
        actor = await actor_of(house, customer)
        assert await audit_of(house, customer) == [
            (actor, "webhook.set_alert_url"),
            (actor, "webhook.rotate_secret"),
            (actor, "webhook.show_secret"),
        ]
