"""Attempts at a webhook: made again with pauses for a day, lost ones too, and given up then."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, update

from gateway.tables import (
    DELIVERED,
    FAILED,
    PENDING,
    WebhookDelivery,
)
from gateway.webhooks import deliveries
from gateway.webhooks.deliveries import (
    PAUSE_MAX,
    Outcome,
    attempts_at,
    pause_after,
    replay,
)
from tests.gateway.webhooks.receiver import open_receiver
from tests.gateway.webhooks.tellings import (
    A_DAY,
    BROKEN,
    NO_PAUSE,
    OpenWorkshop,
    deliverer,
    ended_free,
    only_delivery,
    open_for,
    outcomes_of,
    succeeded_job,
)


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


THEIR_DAY = "Tue, 01 Jan 2030"


@pytest.mark.parametrize(
    ("answer", "asked_s"),
    [
        ("429 Too Many Requests\r\nRetry-After: 900", 900),
        ("503 Busy\r\nretry-after:  900 ", 900),
        ("503 Busy\r\nRetry-After: 99999999999999", PAUSE_MAX.total_seconds()),
        (
            f"503 Busy\r\nDate: {THEIR_DAY} 00:00:00 GMT\r\nRetry-After: {THEIR_DAY} 00:10:00 GMT",
            600,  # by the receiver's own clock
        ),
        ("503 Busy\r\nRetry-After: Sat, 01 Jan 2000 00:00:00 GMT", 60),
        ("503 Busy\r\nRetry-After: 1", 60),  # never sooner than our own pause
        ("503 Busy\r\nRetry-After: soon", 60),
        ("500 Internal Server Error\r\nRetry-After: 900", 60),  # asked only by 429 and 503
    ],
)
async def test_a_receiver_that_asks_for_a_pause_is_given_it(
    open_workshop: OpenWorkshop, answer: str, asked_s: float
) -> None:
    async with open_receiver(answer) as receiver:
        workshop = await open_for(open_workshop, receiver, webhook_retry_pause=timedelta(minutes=1))
        account_id = await ended_free(workshop, receiver.url)
        assert await deliverer(workshop).deliver_due() == 1

    delivery = await only_delivery(workshop, account_id)
    pause_s = (delivery.next_attempt_at - datetime.now(UTC)).total_seconds()
    assert asked_s * 0.8 - 5 < pause_s < asked_s * 1.2 + 1
    assert asked_s == 60 or pause_s > asked_s - 30  # what is asked for is not cut short


async def test_who_asks_for_too_long_is_tried_once_more_before_the_day_is_over(
    open_workshop: OpenWorkshop,
) -> None:
    async with open_receiver("503 Busy\r\nRetry-After: 7200") as receiver:
        workshop = await open_for(open_workshop, receiver)
        account_id = await ended_free(workshop, receiver.url)
        first = await only_delivery(workshop, account_id)
        async with workshop.sessions.begin() as db:
            await db.execute(
                update(WebhookDelivery)
                .where(WebhookDelivery.id == first.id)
                .values(pending_since=func.now() - timedelta(hours=23))
            )
        assert await deliverer(workshop).deliver_due() == 1

    delivery = await only_delivery(workshop, account_id)
    ends_at = delivery.pending_since + A_DAY
    assert delivery.state == PENDING
    assert timedelta(seconds=30) < ends_at - delivery.next_attempt_at < timedelta(minutes=2)


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
