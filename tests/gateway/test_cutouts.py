"""The use case: charged once for a stored cutout, never for anything else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from structlog.testing import capture_logs

from billing.errors import InsufficientCreditsError, TooManyAtOnceError
from core import CutoutOptions
from core.errors import (
    NoForegroundError,
    UnknownModelError,
    UnsupportedFormatError,
)
from gateway import settle
from gateway.errors import (
    DeadlineExceededError,
    IdempotencyConflictError,
    IdempotencyMismatchError,
    StorageUnavailableError,
)
from gateway.tables import CANCELED, FAILED, PROCESSING, SUCCEEDED
from tests.gateway.workshop import Workshop, fresh_key, make_storage_fail, until

PRICE = 25
FREE_CREDITS = 250


async def test_a_cutout_is_stored_and_charged_once(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()

    done = await workshop.cutouts.run(workshop.request(caller, astronaut))

    stored = await workshop.cutouts.storage.get(done.result_key)
    with Image.open(BytesIO(stored)) as cutout:
        assert (cutout.format, cutout.mode, cutout.size) == ("PNG", "RGBA", (512, 512))
    assert (done.width_px, done.height_px, done.result_bytes) == (512, 512, len(stored))
    assert done.model == "cutout-lite"
    assert done.charged_credits == PRICE
    assert not done.is_replayed
    assert done.balance == await workshop.balance(caller)
    assert (done.balance.available, done.balance.held) == (FREE_CREDITS - PRICE, 0)
    assert await workshop.captures_of(done.job_id) == 1
    assert await workshop.foots(caller)


async def test_a_job_tells_what_was_done(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    options = CutoutOptions(format="webp")

    done = await workshop.cutouts.run(workshop.request(caller, astronaut, options=options))

    job = await workshop.cutouts.find(done.job_id, caller.key.account_id)
    assert (job.state, job.progress, job.charged_credits) == (SUCCEEDED, 100, PRICE)
    assert (job.extension, job.media_type) == ("webp", "image/webp")
    assert (job.request_id, job.dialect, job.env) == ("request-of-the-test", "codia", "live")
    assert job.options["format"] == "webp"
    assert "bg_image" not in job.options
    assert job.source_bytes == len(astronaut)
    assert job.stages_ms["segment"] > 0
    assert job.result_expires_at == done.result_expires_at
    assert job.is_tidy, "a request that waits leaves nothing in storage but its result"


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        ({"picture": b"GIF89a" + bytes(64)}, UnsupportedFormatError),
        ({"model": "no-such-model"}, UnknownModelError),
    ],
)
async def test_what_cannot_be_made_is_refused_before_a_hold(
    workshop: Workshop, astronaut: bytes, spoil: dict[str, Any], refusal: type[Exception]
) -> None:
    caller = await workshop.caller()
    changes = {"picture": astronaut} | spoil

    with pytest.raises(refusal):
        await workshop.cutouts.run(workshop.request(caller, **changes))

    assert await workshop.jobs_of(caller) == []
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_a_failure_is_free_and_says_why(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    options = CutoutOptions(confidence_min=1.0)

    with pytest.raises(NoForegroundError):
        await workshop.cutouts.run(workshop.request(caller, astronaut, options=options))

    (job,) = await workshop.jobs_of(caller)
    assert (job.state, job.error_code) == (FAILED, "no_foreground")
    assert job.error_kind == "NoForegroundError"
    assert 0 < job.error_facts["confidence"] < 1
    assert await workshop.hold_state(job.id) == "released"
    balance = await workshop.balance(caller)
    assert (balance.available, balance.held) == (FREE_CREDITS, 0)
    assert await workshop.foots(caller)


async def test_storage_that_fails_costs_nothing(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    make_storage_fail(workshop, monkeypatch)

    with pytest.raises(StorageUnavailableError):
        await workshop.cutouts.run(workshop.request(caller, astronaut))

    (job,) = await workshop.jobs_of(caller)
    assert (job.state, job.charged_credits) == (FAILED, 0)
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_a_request_that_is_cancelled_gives_its_credits_back(
    workshop: Workshop, big_picture: bytes
) -> None:
    caller = await workshop.caller()
    running = asyncio.create_task(workshop.cutouts.run(workshop.request(caller, big_picture)))
    await until(lambda: has_job_in(workshop, caller, PROCESSING))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    (job,) = await workshop.jobs_of(caller)
    assert job.state == CANCELED
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_a_cutout_whose_caller_left_while_it_was_charged_is_no_failure(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    succeed, is_capturing = settle.succeed, asyncio.Event()

    async def succeed_slowly(*args: Any, **kwargs: Any) -> Any:
        is_capturing.set()
        await asyncio.sleep(0.05)
        return await succeed(*args, **kwargs)

    monkeypatch.setattr(settle, "succeed", succeed_slowly)
    with capture_logs() as lines:
        running = asyncio.create_task(workshop.cutouts.run(workshop.request(caller, astronaut)))
        await is_capturing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    (job,) = await workshop.jobs_of(caller)
    assert (job.state, job.charged_credits) == (SUCCEEDED, PRICE)
    events = [line["event"] for line in lines if line["event"].startswith("cutout.")]
    assert events == ["cutout.captured"]


async def test_an_attempt_ends_at_its_deadline(
    open_workshop: Callable[..., Awaitable[Workshop]], big_picture: bytes
) -> None:
    workshop = await open_workshop(inference_deadline=0.05)
    caller = await workshop.caller()

    with pytest.raises(DeadlineExceededError):
        await workshop.cutouts.run(workshop.request(caller, big_picture))

    (job,) = await workshop.jobs_of(caller)
    assert (job.state, job.error_code) == (FAILED, "deadline_exceeded")
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_ten_free_calls_pay_for_ten_cutouts(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    for _ in range(FREE_CREDITS // PRICE):
        await workshop.cutouts.run(workshop.request(caller, astronaut))

    with pytest.raises(InsufficientCreditsError):
        await workshop.cutouts.run(workshop.request(caller, astronaut))

    assert (await workshop.balance(caller)).available == 0
    assert await workshop.foots(caller)


async def test_a_test_key_is_free_and_its_cutouts_are_marked(
    workshop: Workshop, astronaut: bytes
) -> None:
    live, trial = await workshop.caller(), await workshop.caller(env="test")

    paid = await workshop.cutouts.run(workshop.request(live, astronaut))
    free = await workshop.cutouts.run(workshop.request(trial, astronaut))

    assert free.charged_credits == 0
    assert (await workshop.balance(trial)).available == FREE_CREDITS
    storage = workshop.cutouts.storage
    assert await storage.get(free.result_key) != await storage.get(paid.result_key)
    assert (await workshop.cutouts.find(free.job_id)).options["watermark"]


async def test_one_account_works_on_so_many_at_once(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller(concurrency_max=2)
    await workshop.queued(caller, count=2, picture=astronaut)

    with pytest.raises(TooManyAtOnceError):
        await workshop.cutouts.run(workshop.request(caller, astronaut))

    await workshop.work_off()
    await workshop.cutouts.run(workshop.request(caller, astronaut))


# Idempotency ---------------------------------------------------------------------------------


async def test_a_retry_gets_the_first_answer_and_pays_once(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, idempotency_key=fresh_key())

    first = await workshop.cutouts.run(request)
    again = await workshop.cutouts.run(request)

    assert again.is_replayed
    assert (again.job_id, again.result_key) == (first.job_id, first.result_key)
    assert again.charged_credits == first.charged_credits
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE
    assert len(await workshop.jobs_of(caller)) == 1


async def test_requests_at_once_under_one_key_make_one_job(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, idempotency_key=fresh_key())

    answers = await asyncio.gather(
        *(workshop.cutouts.run(request) for _ in range(5)), return_exceptions=True
    )

    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == len(answers) - 1
    assert all(isinstance(refusal, IdempotencyConflictError) for refusal in refused)
    assert len(await workshop.jobs_of(caller)) == 1
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_key_is_for_one_request_only(
    workshop: Workshop, astronaut: bytes, big_picture: bytes
) -> None:
    caller = await workshop.caller()
    key = fresh_key()
    await workshop.cutouts.run(workshop.request(caller, astronaut, idempotency_key=key))

    with pytest.raises(IdempotencyMismatchError):
        await workshop.cutouts.run(workshop.request(caller, big_picture, idempotency_key=key))
    with pytest.raises(IdempotencyMismatchError):
        await workshop.cutouts.submit(
            workshop.request(caller, astronaut, idempotency_key=key, dialect="revid")
        )

    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_key_that_was_tried_with_a_test_key_is_new_to_a_live_one(
    workshop: Workshop, astronaut: bytes
) -> None:
    live = await workshop.caller()
    trial = replace(live, key=replace(live.key, env="test"))
    key = fresh_key()
    await workshop.cutouts.run(workshop.request(trial, astronaut, idempotency_key=key))

    paid = await workshop.cutouts.run(workshop.request(live, astronaut, idempotency_key=key))

    assert not paid.is_replayed
    assert paid.charged_credits == PRICE
    assert not (await workshop.cutouts.find(paid.job_id)).options["watermark"]


async def test_two_accounts_may_choose_the_same_key(workshop: Workshop, astronaut: bytes) -> None:
    key = fresh_key()
    one, other = await workshop.caller(), await workshop.caller()

    first = await workshop.cutouts.run(workshop.request(one, astronaut, idempotency_key=key))
    second = await workshop.cutouts.run(workshop.request(other, astronaut, idempotency_key=key))

    assert first.job_id != second.job_id
    assert not second.is_replayed


async def test_a_retry_after_a_failure_is_a_new_attempt(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, idempotency_key=fresh_key())
    with monkeypatch.context() as patch:
        make_storage_fail(workshop, patch)
        with pytest.raises(StorageUnavailableError):
            await workshop.cutouts.run(request)

    done = await workshop.cutouts.run(request)

    assert not done.is_replayed
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_submission_is_answered_with_the_first_task_again(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    request = workshop.request(caller, astronaut, dialect="revid", idempotency_key=fresh_key())

    first = await workshop.cutouts.submit(request)
    again = await workshop.cutouts.submit(request)
    await workshop.work_off()
    later = await workshop.cutouts.submit(request)

    assert first.job_id == again.job_id == later.job_id
    assert (first.is_replayed, again.is_replayed, later.is_replayed) == (False, True, True)
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def has_job_in(workshop: Workshop, caller: Any, state: str) -> bool:
    return any(job.state == state for job in await workshop.jobs_of(caller))
