"""Webhooks: written with what they tell, told at least once, to public receivers only."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trustme
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.credits import grant_credits
from core.errors import NoForegroundError
from gateway import jobs, settle
from gateway.errors import LeaseLostError
from gateway.fetching.reach import Reach
from gateway.links import Links
from gateway.settle import Failure
from gateway.tables import (
    CANCELED,
    DELIVERED,
    FAILED,
    PENDING,
    PROCESSING,
    QUEUED,
    SUCCEEDED,
    Fence,
    Job,
    WebhookAttempt,
    WebhookDelivery,
)
from gateway.webhooks import deliveries
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.deliveries import (
    PAUSE_MAX,
    Outcome,
    attempts_at,
    deliveries_of,
    pause_after,
    replay,
)
from gateway.webhooks.endpoints import rotate_secret, secrets_of, set_alert_url
from gateway.webhooks.signing import master_of, written
from tests.gateway.fetching.sites import Names
from tests.gateway.webhooks.receiver import Receiver, open_receiver
from tests.gateway.workshop import Workshop

OpenWorkshop = Callable[..., Awaitable[Workshop]]
NO_PAUSE = timedelta(microseconds=1)
A_DAY = timedelta(days=1)
BROKEN = "500 Internal Server Error"


async def open_for(open_workshop: OpenWorkshop, receiver: Receiver, **more: Any) -> Workshop:
    """Open a workshop that may reach this receiver, and forget what others have left to tell."""
    settings = {"fetch_allowed_hosts": [receiver.place], "webhook_retry_pause": NO_PAUSE} | more
    workshop = await open_workshop(**settings)
    async with workshop.sessions.begin() as db:
        await db.execute(
            text(
                "UPDATE webhook_delivery SET state = 'failed', finished_at = now()"
                " WHERE state = 'pending'"
            )
        )
    return workshop


def deliverer(workshop: Workshop) -> Deliverer:
    return Deliverer(workshop.sessions, workshop.settings)


async def only_delivery(workshop: Workshop, account_id: UUID) -> WebhookDelivery:
    async with workshop.sessions.begin() as db:
        (delivery,) = await deliveries_of(db, account_id)
        return delivery


async def outcomes_of(workshop: Workshop, delivery: WebhookDelivery) -> list[str | None]:
    async with workshop.sessions.begin() as db:
        return [attempt.outcome for attempt in await attempts_at(db, delivery.id)]


async def succeeded_job(workshop: Workshop, picture: bytes, url: str) -> UUID:
    """Make a cutout whose end is to be told; tell whose it is."""
    caller = await workshop.caller()
    await workshop.cutouts.run(workshop.request(caller, picture, webhook_url=url))
    return caller.key.account_id


async def ended_free(workshop: Workshop, url: str, *, count: int = 1) -> UUID:
    """Cancel jobs that waited: the cheapest end of a job. Tell whose they are."""
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url=url)
    for _ in range(count):
        job_id = (await workshop.cutouts.submit(request)).job_id
        await workshop.cutouts.cancel(job_id, caller.key.account_id)
    return caller.key.account_id


async def test_a_cutout_is_told_signed_and_can_be_downloaded_by_what_is_told(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await succeeded_job(workshop, astronaut, receiver.url)
        assert await deliverer(workshop).deliver_due() == 1

    (heard,) = receiver.heard
    delivery = await only_delivery(workshop, account_id)
    assert delivery.job_id is not None
    async with workshop.sessions.begin() as db:
        secrets = await secrets_of(db, account_id, master_of(workshop.settings))
    assert heard.is_signed_with(written(secrets[0]))
    assert heard.path == "/hook?token=mine"
    assert heard.id == f"msg_{delivery.id.hex}"
    assert abs(int(heard.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 10
    document = heard.document
    assert (document["type"], document["data"]["state"]) == ("cutout.succeeded", SUCCEEDED)
    assert document["data"]["job_id"] == str(delivery.job_id)
    assert document["data"]["charged_credits"] == 25
    link = httpx.URL(document["data"]["image_url"])
    assert link.path == f"/r/{delivery.job_id}.png"
    links = Links(workshop.settings.public_url, "link-secret-of-the-tests-and-nobody-else")
    links.verify(delivery.job_id, "png", link.params["expires"], link.params["signature"])
    assert delivery.state == DELIVERED
    assert await deliverer(workshop).deliver_due() == 0


async def test_a_failed_job_is_told_with_its_code(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        caller = await workshop.caller()
        request = workshop.request(caller, b"GIF89a", dialect="revid", webhook_url=receiver.url)
        await workshop.cutouts.submit(request)
        await workshop.work_off()
        await deliverer(workshop).deliver_due()

    document = receiver.heard[0].document
    assert document["type"] == "cutout.failed"
    assert document["data"]["error"]["code"] == "unsupported_format"
    assert document["data"]["charged_credits"] == 0
    assert "image_url" not in document["data"]


async def test_a_canceled_job_is_told(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        await ended_free(workshop, receiver.url)
        await deliverer(workshop).deliver_due()
    assert receiver.heard[0].document["type"] == "cutout.canceled"


async def test_a_receiver_that_fails_twice_hears_the_same_event_a_third_time(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    async with open_receiver(BROKEN, "503 Busy", "204 No Content") as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await succeeded_job(workshop, astronaut, receiver.url)
        assert await deliverer(workshop).deliver_due() == 3

    delivery = await only_delivery(workshop, account_id)
    assert len(set(receiver.ids)) == 1
    facts = [heard.document["data"] | {"image_url": ""} for heard in receiver.heard]
    assert facts[0] == facts[1] == facts[2]
    assert delivery.state == DELIVERED
    async with workshop.sessions.begin() as db:
        attempts = await attempts_at(db, delivery.id)
    assert [attempt.status for attempt in attempts] == [500, 503, 204]
    assert all(attempt.ms is not None for attempt in attempts)


@pytest.mark.parametrize(
    ("answer", "outcome", "state"),
    [
        ("410 Gone", Outcome.GONE, FAILED),
        ("404 Not Found", Outcome.STATUS, PENDING),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", Outcome.REDIRECT, PENDING),
        ("307 Moved\r\nLocation: http://169.254.169.254/latest", Outcome.REDIRECT, PENDING),
        ("nonsense", Outcome.UNREACHABLE, PENDING),
    ],
)
async def test_what_is_no_yes_is_tried_again_unless_the_receiver_is_gone(
    open_workshop: OpenWorkshop, answer: str, outcome: Outcome, state: str
) -> None:
    async with open_receiver(answer) as receiver:
        workshop = await open_for(open_workshop, receiver, webhook_retry_pause=timedelta(minutes=1))
        account_id = await ended_free(workshop, receiver.url)
        assert await deliverer(workshop).deliver_due() == 1

    assert len(receiver.heard) == 1  # and nobody was sent on
    delivery = await only_delivery(workshop, account_id)
    assert await outcomes_of(workshop, delivery) == [outcome]
    assert delivery.state == state
    if state == PENDING:
        pause = delivery.next_attempt_at - datetime.now(UTC)
        assert timedelta(seconds=40) < pause < timedelta(seconds=75)


async def test_a_receiver_that_does_not_answer_costs_the_deadline_and_no_more(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver(pause_s=60) as receiver:
        workshop = await open_for(
            open_workshop,
            receiver,
            webhook_deadline=timedelta(seconds=0.3),
            webhook_retry_pause=timedelta(minutes=1),
        )
        account_id = await ended_free(workshop, receiver.url)
        await asyncio.wait_for(deliverer(workshop).deliver_due(), 5)

    delivery = await only_delivery(workshop, account_id)
    async with workshop.sessions.begin() as db:
        (attempt,) = await attempts_at(db, delivery.id)
    assert attempt.outcome == Outcome.TIMEOUT
    assert 250 <= (attempt.ms or 0) < 3000


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


async def test_after_a_day_a_delivery_is_given_up_and_can_be_replayed_under_its_id(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver(BROKEN) as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        first = await only_delivery(workshop, account_id)
        async with workshop.sessions.begin() as db:
            await db.execute(
                update(WebhookDelivery)
                .where(WebhookDelivery.id == first.id)
                .values(pending_since=func.now() - timedelta(hours=25))
            )
        assert await deliverer(workshop).deliver_due() == 1
        assert (await only_delivery(workshop, account_id)).state == FAILED

        receiver.answers = ["200 OK"]
        async with workshop.sessions.begin() as db:
            assert await replay(db, first.id) is not None
            assert await replay(db, first.id) is None  # it is under way
        assert await deliverer(workshop).deliver_due() == 1

    assert (await only_delivery(workshop, account_id)).state == DELIVERED
    assert len(set(receiver.ids)) == 1
    assert await outcomes_of(workshop, first) == [Outcome.STATUS, Outcome.DELIVERED]


async def test_nothing_is_told_of_what_was_rolled_back(workshop: Workshop) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url="https://example.com/")
    job_id = (await workshop.cutouts.submit(request)).job_id

    async with workshop.sessions() as db:
        job = await jobs.find(db, job_id)
        assert await settle.cancel(db, job.fence, states=(QUEUED,))
        await db.flush()
        await db.rollback()

    async with workshop.sessions.begin() as db:
        assert await deliveries_of(db, caller.key.account_id) == []
        job = await jobs.find(db, job_id)
        assert await settle.fail(db, job.fence, Failure.of(NoForegroundError(0.1)))
        assert not await settle.cancel(db, job.fence, states=(QUEUED, CANCELED))
    assert (await only_delivery(workshop, caller.key.account_id)).kind == "cutout.failed"


@given(steps=st.lists(st.sampled_from(["claim", "succeed", "fail", "cancel", "retry"]), max_size=9))
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_however_a_job_goes_it_is_told_once_if_it_has_ended(
    workshop: Workshop, steps: list[str]
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, b"x", dialect="revid", webhook_url="https://example.com/")
    job_id = (await workshop.cutouts.submit(request)).job_id
    late = (await workshop.cutouts.find(job_id)).fence
    for step in steps:
        job = await workshop.cutouts.find(job_id)
        for fence in {late, job.fence}:
            with contextlib.suppress(LeaseLostError):
                async with workshop.sessions.begin() as db:
                    await take(step, db, job, fence)
        late = job.fence

    job = await workshop.cutouts.find(job_id)
    async with workshop.sessions.begin() as db:
        told = [delivery.kind for delivery in await deliveries_of(db, job.account_id)]
        await settle.cancel(db, job.fence, states=(QUEUED, PROCESSING))
    assert told == ([f"cutout.{job.state}"] if job.has_ended else [])


async def take(step: str, db: AsyncSession, job: Job, fence: Fence) -> None:
    """Take one step of a job's life, whoever is late for it included."""
    match step:
        case "claim":
            await db.execute(
                update(Job)
                .where(Job.id == fence.job_id, Job.state == QUEUED)
                .values(state=PROCESSING, lease_until=func.now() + timedelta(minutes=1))
            )
        case "succeed":
            await settle.succeed(db, fence, {"result_key": "nowhere", "extension": "png"})
        case "fail":
            await settle.fail(db, fence, Failure("overloaded"))
        case "cancel":
            await settle.cancel(db, fence, states=(QUEUED,))
        case "retry" if job.state == PROCESSING and job.fence == fence:
            await settle.retry_or_fail(db, job, Failure("overloaded"), attempts_max=3)


async def test_without_a_url_nothing_is_written(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    await workshop.cutouts.run(workshop.request(caller, astronaut))
    async with workshop.sessions.begin() as db:
        assert await deliveries_of(db, caller.key.account_id) == []


async def test_many_workers_tell_each_event_once(open_workshop: OpenWorkshop) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        for _ in range(5):
            await ended_free(workshop, receiver.url, count=6)
        counts = await asyncio.gather(*(deliverer(workshop).deliver_due() for _ in range(4)))

    assert sum(counts) == 30
    assert len(receiver.ids) == len(set(receiver.ids)) == 30


async def test_an_attempt_that_was_lost_with_its_worker_is_made_again(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        async with workshop.sessions.begin() as db:
            lost = await deliveries.claim(db, lease=timedelta(seconds=0.5), span=A_DAY)
            assert lost is not None
        assert await deliverer(workshop).deliver_due() == 0  # its lease is not over
        await asyncio.sleep(0.6)
        assert await deliverer(workshop).deliver_due() == 1

    delivery = await only_delivery(workshop, account_id)
    assert await outcomes_of(workshop, delivery) == [None, Outcome.DELIVERED]


async def test_what_was_lost_for_a_day_is_given_up_and_not_tried_for_ever(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        async with workshop.sessions.begin() as db:
            lost = await deliveries.claim(db, lease=timedelta(0), span=A_DAY)
            assert lost is not None
            await db.execute(
                update(WebhookDelivery)
                .where(WebhookDelivery.id == lost.id)
                .values(pending_since=func.now() - timedelta(hours=25))
            )
        assert await deliverer(workshop).deliver_due() == 0

    assert (await only_delivery(workshop, account_id)).state == FAILED
    assert not receiver.heard


async def test_the_span_of_trying_is_measured_by_the_databases_clock(
    open_workshop: OpenWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fast(datetime):
        """A gateway's clock that is two days ahead: no test can turn the machine's own."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=2)

    async with open_receiver(BROKEN) as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        async with workshop.sessions.begin() as db:
            delivery = await deliveries.claim(db, lease=A_DAY, span=A_DAY)
            assert delivery is not None
        monkeypatch.setattr(deliveries, "datetime", Fast)
        async with workshop.sessions.begin() as db:
            told = deliveries.Told(Outcome.STATUS, 500, 3)
            await deliveries.note(db, delivery, told, pause=NO_PAUSE, span=A_DAY)

    assert (await only_delivery(workshop, account_id)).state == PENDING


async def test_a_late_failure_does_not_undo_what_another_attempt_has_told(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        async with workshop.sessions.begin() as db:
            late = await deliveries.claim(db, lease=timedelta(0), span=A_DAY)
            assert late is not None
        await deliverer(workshop).deliver_due()
        async with workshop.sessions.begin() as db:
            told = deliveries.Told(Outcome.TIMEOUT, None, 10_000)
            await deliveries.note(db, late, told, pause=NO_PAUSE, span=timedelta(days=1))

    delivery = await only_delivery(workshop, account_id)
    assert delivery.state == DELIVERED
    assert await outcomes_of(workshop, delivery) == [Outcome.TIMEOUT, Outcome.DELIVERED]


async def test_one_accounts_slow_receiver_does_not_keep_the_others_waiting(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver(pause_s=60) as slow, open_receiver() as quick:
        workshop = await open_for(
            open_workshop,
            quick,
            fetch_allowed_hosts=[slow.place, quick.place],
            webhook_concurrency_max=4,
        )
        await ended_free(workshop, slow.url, count=8)
        await ended_free(workshop, quick.url)
        running = asyncio.create_task(deliverer(workshop).run_forever())
        try:
            await asyncio.wait_for(quick.was_heard.wait(), 5)
        finally:
            running.cancel()
            await asyncio.wait([running])
        assert len(slow.heard) == 1


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


async def test_each_threshold_of_a_period_is_told_once(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    async with open_receiver() as receiver:
        workshop = await open_for(open_workshop, receiver)
        caller = await workshop.caller()  # the free plan: 250 credits, ten cutouts
        account_id = caller.key.account_id
        async with workshop.sessions.begin() as db:
            await set_alert_url(db, account_id, receiver.url, actor="test")
        percents: list[int] = []
        for _ in range(10):
            await workshop.cutouts.run(workshop.request(caller, astronaut))
            await deliverer(workshop).deliver_due()
            percents.append(receiver.heard[-1].document["data"]["percent"] if receiver.heard else 0)
        assert percents == [0, 0, 0, 0, 50, 50, 50, 80, 80, 100]
        async with workshop.sessions.begin() as db:
            await grant_credits(
                db, account_id, amount=100, source="topup", ref=str(uuid4()), actor="t", reason="t"
            )
        await workshop.cutouts.run(workshop.request(caller, astronaut))
        await deliverer(workshop).deliver_due()

    assert len(receiver.heard) == len(set(receiver.ids)) == 3
    last = receiver.heard[-1].document
    assert last["type"] == "credits.threshold_crossed"
    assert (last["data"]["consumed"], last["data"]["available"]) == (250, 0)
    assert last["data"]["account_id"] == str(account_id)


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


@pytest.mark.parametrize(
    "column", ["url = 'https://example.com/'", "facts = '{}'", "job_id = NULL"]
)
async def test_the_application_cannot_rewrite_what_is_told(workshop: Workshop, column: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with workshop.sessions.begin() as db:
            await db.execute(text(f"UPDATE webhook_delivery SET {column}"))  # noqa: S608


@given(st.integers(1, 10_000), st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)))
def test_pauses_grow_threefold_up_to_four_hours(tries: int, first: timedelta) -> None:
    pause, after = pause_after(tries, first), pause_after(tries + 1, first)
    assert first <= pause <= after <= PAUSE_MAX
    assert after in {pause * 3, PAUSE_MAX} or abs(after - pause * 3) < timedelta(milliseconds=1)


@given(st.lists(st.floats(0.8, 1.2), min_size=40, max_size=40))
def test_a_day_has_about_a_dozen_attempts(jitters: list[float]) -> None:
    at, attempts = timedelta(0), 1
    for tries, jitter in enumerate(jitters, start=1):
        at += pause_after(tries, timedelta(seconds=5)) * jitter
        if at > timedelta(hours=24):
            break
        attempts += 1
    assert 11 <= attempts <= 15
