"""The use case: charged once for a stored cutout, never for anything else."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image

from billing.errors import InsufficientCreditsError, TooManyAtOnceError
from core import CutoutOptions
from core.errors import (
    ImageTooLargeError,
    NoForegroundError,
    UnknownModelError,
    UnsupportedFormatError,
)
from gateway.errors import (
    DeadlineExceededError,
    IdempotencyConflictError,
    IdempotencyMismatchError,
    JobNotFoundError,
    ResultExpiredError,
    StorageUnavailableError,
)
from gateway.tables import CANCELED, FAILED, PROCESSING, QUEUED, SUCCEEDED
from tests.gateway.workshop import Workshop, fresh_key

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


# Asynchronous --------------------------------------------------------------------------------


async def test_a_submitted_job_waits_with_its_hold_and_is_charged_when_done(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()

    submitted = await workshop.cutouts.submit(workshop.request(caller, astronaut, dialect="revid"))

    waiting = await workshop.cutouts.find(submitted.job_id)
    assert (waiting.state, waiting.progress) == (QUEUED, 0)
    assert (submitted.balance.held, submitted.price_credits) == (PRICE, PRICE)
    await workshop.work_off()
    job = await workshop.cutouts.find(submitted.job_id)
    assert (job.state, job.model_ran) == (SUCCEEDED, "cutout-lite")
    assert await workshop.cutouts.storage.exists(str(job.result_key))
    assert await workshop.captures_of(job.id) == 1
    assert (await workshop.balance(caller)).held == 0


async def test_the_customers_own_background_comes_along(
    workshop: Workshop, astronaut: bytes, photo: bytes
) -> None:
    caller = await workshop.caller()
    options = CutoutOptions(bg_image=photo)
    at_once = await workshop.cutouts.run(workshop.request(caller, astronaut, options=options))

    submitted = await workshop.cutouts.submit(
        workshop.request(caller, astronaut, dialect="revid", options=options)
    )
    await workshop.work_off()

    job = await workshop.cutouts.find(submitted.job_id)
    storage = workshop.cutouts.storage
    assert await storage.get(str(job.result_key)) == await storage.get(at_once.result_key)


async def test_a_picture_of_the_wrong_kind_becomes_a_failed_job_with_facts(
    workshop: Workshop,
) -> None:
    caller = await workshop.caller()

    (job_id,) = await workshop.queued(caller, picture=b"GIF89a" + bytes(64))
    await workshop.work_off()

    job = await workshop.cutouts.find(job_id)
    assert (job.state, job.error_code) == (FAILED, "unsupported_format")
    assert (job.error_kind, job.error_facts) == ("UnsupportedFormatError", {"format_name": "gif"})
    assert (await workshop.balance(caller)).available == FREE_CREDITS


async def test_too_many_pixels_are_refused_before_a_job(
    open_workshop: Callable[..., Awaitable[Workshop]], astronaut: bytes
) -> None:
    workshop = await open_workshop(image_pixels_max=1000)
    caller = await workshop.caller()

    with pytest.raises(ImageTooLargeError):
        await workshop.queued(caller, picture=astronaut)

    assert await workshop.jobs_of(caller) == []


async def test_a_submission_that_is_refused_leaves_no_upload(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller(concurrency_max=1)
    (accepted,) = await workshop.queued(caller, picture=astronaut)

    with pytest.raises(TooManyAtOnceError):
        await workshop.queued(caller, picture=astronaut)

    folders = list(storage_folder(workshop).joinpath("sources").glob("*/source"))
    assert [folder.parent.name for folder in folders] == [str(accepted)]


async def test_storage_that_comes_back_makes_the_job_after_all(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    with monkeypatch.context() as patch:
        make_storage_fail(workshop, patch)
        await workshop.work_off()

    handed_on = await workshop.cutouts.find(job_id)
    assert (handed_on.state, handed_on.attempt) == (QUEUED, 2)
    assert await workshop.claim() is None, "there is a pause before the next attempt"
    await until(workshop.work_off)
    assert (await workshop.cutouts.find(job_id)).state == SUCCEEDED
    assert await workshop.captures_of(job_id) == 1


async def test_a_worker_that_is_stopped_hands_its_job_back(
    workshop: Workshop, big_picture: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=big_picture)
    claimed = await workshop.claim()
    assert claimed is not None
    working = asyncio.create_task(workshop.cutouts.work(job_id, claimed.attempt))
    await until(lambda: has_reached_a_stage(workshop, job_id))

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    handed_on = await workshop.cutouts.find(job_id)
    assert (handed_on.state, handed_on.attempt, handed_on.progress) == (QUEUED, 2, 0)
    assert await workshop.work_off() == 1
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_progress_rises_with_the_stages(workshop: Workshop, big_picture: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=big_picture)
    working = asyncio.create_task(workshop.work_off())

    seen: list[tuple[str | None, int]] = []
    while not working.done():
        job = await workshop.cutouts.find(job_id)
        seen.append((job.stage, job.progress))
        await asyncio.sleep(0.01)
    await working

    progress = [percent for _, percent in seen]
    assert progress == sorted(progress)
    assert {stage for stage, _ in seen} > {None, "segment"}


async def test_who_waits_is_told_as_soon_as_the_job_has_ended(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    patient = asyncio.create_task(workshop.cutouts.wait(job_id, None, wait_s=20))
    in_a_hurry = await workshop.cutouts.wait(job_id, None, wait_s=0.01)
    await workshop.work_off()

    assert in_a_hurry.state == QUEUED
    assert (await asyncio.wait_for(patient, 5)).state == SUCCEEDED


async def test_a_queued_job_is_cancelled_and_its_hold_released(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    job = await workshop.cutouts.cancel(job_id, caller.key.account_id)
    again = await workshop.cutouts.cancel(job_id, caller.key.account_id)

    assert job.state == again.state == CANCELED
    assert await workshop.work_off() == 0
    assert (await workshop.balance(caller)).available == FREE_CREDITS
    assert await workshop.foots(caller)


async def test_a_job_that_was_begun_is_not_cancelled(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    claimed = await workshop.claim()
    assert claimed is not None

    job = await workshop.cutouts.cancel(job_id, caller.key.account_id)

    assert job.state == PROCESSING
    await workshop.cutouts.work(job_id, claimed.attempt)
    assert (await workshop.cutouts.find(job_id)).state == SUCCEEDED


async def test_a_job_is_found_by_its_owner_only(workshop: Workshop, astronaut: bytes) -> None:
    owner, stranger = await workshop.caller(), await workshop.caller()
    (job_id,) = await workshop.queued(owner, picture=astronaut)

    assert (await workshop.cutouts.find(job_id, owner.key.account_id)).id == job_id
    for account_id, asked in [(stranger.key.account_id, job_id), (None, uuid4())]:
        with pytest.raises(JobNotFoundError):
            await workshop.cutouts.find(asked, account_id)
    with pytest.raises(JobNotFoundError):
        await workshop.cutouts.cancel(job_id, stranger.key.account_id)
    await workshop.work_off()


# The fence -----------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_charges_nothing(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    zombie = await workshop.claim()
    assert zombie is not None
    await workshop.let_lease_run_out(job_id)
    await workshop.sweeper.sweep()
    successor = await workshop.claim()
    assert successor is not None
    assert (zombie.attempt, successor.attempt) == (1, 2)

    # It wakes up with what it knew, and goes on as if nothing had happened.
    await workshop.cutouts._attempts.work(zombie)

    assert (await workshop.cutouts.find(job_id)).state == PROCESSING
    assert await workshop.captures_of(job_id) == 0
    with pytest.raises(ResultExpiredError):
        await workshop.cutouts.storage.get(f"results/{job_id}/1.png")
    await workshop.cutouts.work(job_id, successor.attempt)
    assert (await workshop.cutouts.find(job_id)).result_key == f"results/{job_id}/2.png"
    assert await workshop.captures_of(job_id) == 1
    assert (await workshop.balance(caller)).available == FREE_CREDITS - PRICE


async def test_a_ring_for_an_old_attempt_does_nothing(workshop: Workshop, astronaut: bytes) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)

    await workshop.cutouts.work(job_id, 1)

    assert (await workshop.cutouts.find(job_id)).state == QUEUED, "it was not claimed"
    await workshop.work_off()
    await workshop.cutouts.work(job_id, 1)
    assert await workshop.captures_of(job_id) == 1


def make_storage_fail(workshop: Workshop, patch: pytest.MonkeyPatch) -> None:
    """Break `put` for results. Patched, since a folder cannot be made read-only for root."""
    storage = workshop.cutouts.storage

    async def put(key: str, data: bytes) -> None:
        raise StorageUnavailableError(f"{key}, {len(data)} bytes")

    patch.setattr(storage, "put", put)


def storage_folder(workshop: Workshop) -> Any:
    return workshop.cutouts.storage._folder


async def has_job_in(workshop: Workshop, caller: Any, state: str) -> bool:
    return any(job.state == state for job in await workshop.jobs_of(caller))


async def has_reached_a_stage(workshop: Workshop, job_id: UUID) -> bool:
    return (await workshop.cutouts.find(job_id)).stage is not None


async def until(happens: Callable[[], Awaitable[Any]], *, seconds: float = 10) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await happens():  # noqa: ASYNC110 - it happens in the database
            await asyncio.sleep(0.01)
