"""Who is told by webhook: public receivers, with the account's own signature, and nobody else."""

import asyncio
import json
import ssl
from datetime import timedelta

import pytest
import trustme
from sqlalchemy import select

from gateway.fetching.reach import Reach
from gateway.tables import (
    FAILED,
    PENDING,
    WebhookAttempt,
)
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.deliveries import (
    Outcome,
)
from gateway.webhooks.endpoints import rotate_secret, secrets_of
from gateway.webhooks.signing import master_of, written
from tests.gateway.fetching.sites import Names
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.webhooks.tellings import (
    BROKEN,
    OpenWorkshop,
    deliverer,
    ended_free,
    only_delivery,
    open_for,
    outcomes_of,
)
from tests.gateway.workshop import Workshop


async def test_a_private_address_is_never_told_anything(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as allowed, open_receiver() as private:
        workshop = await open_for(open_workshop, allowed)
        account_id = await ended_free(workshop, private.url)
        await deliverer(workshop).deliver_due()

    assert not private.heard
    delivery = await only_delivery(workshop, account_id)
    assert delivery.state == FAILED
    assert await outcomes_of(workshop, delivery) == [Outcome.NOT_ALLOWED]


@pytest.mark.parametrize(
    ("addresses", "outcome", "state"),
    [
        (["10.0.0.1"], Outcome.NOT_ALLOWED, FAILED),
        (["93.184.215.14", "127.0.0.1"], Outcome.NOT_ALLOWED, FAILED),  # one is enough
        ([], Outcome.NOT_ALLOWED, FAILED),
        (None, Outcome.UNREACHABLE, PENDING),  # the name may come back
    ],
)
async def test_a_name_is_judged_by_all_its_addresses_at_each_attempt(
    open_workshop: OpenWorkshop, addresses: list[str] | None, outcome: Outcome, state: str
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver, webhook_retry_pause=timedelta(minutes=1))
        account_id = await ended_free(workshop, "https://hooks.example/cutout")
        names = Names({} if addresses is None else {"hooks.example": addresses})
        reach = Reach(workshop.settings, resolve=names)
        await Deliverer(workshop.sessions, workshop.settings, reach=reach).deliver_due()

    delivery = await only_delivery(workshop, account_id)
    assert await outcomes_of(workshop, delivery) == [outcome]
    assert delivery.state == state
    assert names.asked == ["hooks.example"]


@pytest.mark.parametrize("certified", ["hooks.example", "other.example"])
async def test_https_is_told_only_to_whom_the_certificate_names(
    open_workshop: OpenWorkshop, monkeypatch: pytest.MonkeyPatch, certified: str
) -> None:
    monkeypatch.setattr("gateway.fetching.reach.is_public", lambda address: address.is_loopback)
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert(certified).configure_cert(theirs)
    async with open_receiver(tls=theirs) as receiver:
        workshop = await open_for(
            open_workshop,
            receiver,
            fetch_ports=[receiver.port],
            webhook_retry_pause=timedelta(minutes=1),
        )
        url = f"https://hooks.example:{receiver.port}/cutout"
        account_id = await ended_free(workshop, url)
        reach = Reach(workshop.settings, resolve=Names({"hooks.example": ["127.0.0.1"]}))
        await Deliverer(workshop.sessions, workshop.settings, reach=reach, tls=ours).deliver_due()

    is_theirs = certified == "hooks.example"
    outcome = Outcome.DELIVERED if is_theirs else Outcome.UNREACHABLE
    assert await outcomes_of(workshop, await only_delivery(workshop, account_id)) == [outcome]
    assert len(receiver.heard) == is_theirs


async def test_while_a_rotation_has_its_grace_both_secrets_check(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        master = master_of(workshop.settings)
        async with workshop.sessions.begin() as db:
            (former,) = await secrets_of(db, account_id, master)
            await rotate_secret(db, account_id, grace=timedelta(hours=1), actor="test")
        async with workshop.sessions.begin() as db:
            present, still_good = await secrets_of(db, account_id, master)
        assert still_good == former != present
        await deliverer(workshop).deliver_due()
        async with workshop.sessions.begin() as db:
            grace = timedelta(0)
            assert not await rotate_secret(db, account_id, grace=grace, actor="test")
        async with workshop.sessions.begin() as db:
            assert await secrets_of(db, account_id, master) == [present, former]
            forced = await rotate_secret(db, account_id, grace=grace, actor="test", is_forced=True)
            assert forced
        async with workshop.sessions.begin() as db:
            (third,) = await secrets_of(db, account_id, master)

    (heard,) = receiver.heard
    assert heard.is_signed_with(written(present))
    assert heard.is_signed_with(written(former))
    assert not heard.is_signed_with(written(third))


async def test_the_grace_of_a_rotation_ends_by_the_databases_clock(workshop: Workshop) -> None:
    caller = await workshop.caller()
    account_id, master = caller.key.account_id, master_of(workshop.settings)
    async with workshop.sessions.begin() as db:
        await rotate_secret(db, account_id, grace=timedelta(milliseconds=50), actor="test")
        await asyncio.sleep(0.1)
        # The machine's clock has passed the grace; the database's stands still in a transaction.
        assert len(await secrets_of(db, account_id, master)) == 2
    async with workshop.sessions.begin() as db:
        assert len(await secrets_of(db, account_id, master)) == 1


async def test_no_log_line_and_no_row_holds_a_secret_or_an_answer(
    open_workshop: OpenWorkshop, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_receiver(BROKEN, "200 OK") as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        await deliverer(workshop).deliver_due()
        async with workshop.sessions.begin() as db:
            (secret,) = await secrets_of(db, account_id, master_of(workshop.settings))
            rows = (await db.execute(select(WebhookAttempt))).scalars().all()
    seen = "".join(capfd.readouterr()) + json.dumps([str(vars(row)) for row in rows])
    assert written(secret) not in seen
    assert secret.hex() not in seen
    assert "token=mine" not in seen
