"""Acts on what was made and told: jobs run again, webhooks told again, notes written."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from playwright.async_api import expect
from sqlalchemy import func, select

from billing.staff_tables import AccountNote
from gateway.app import House
from gateway.tables import FAILED, PENDING, SUCCEEDED, Job, WebhookDelivery
from tests.conftest import encoded_photograph
from tests.gateway.dashboard.acting import REASON, Actor
from tests.gateway.dashboard.calls import Caller, new_caller
from tests.gateway.faces import Visit, needs_chromium
from tests.gateway.web import WorkOff

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture
async def caller(served: str, house: House) -> Caller:
    return await new_caller(served, house, f"Work {uuid4().hex[:8]}")


@pytest.fixture
async def support(
    visit: Visit, house: House, caller: Caller, signed_in: Callable[[str], Awaitable[str]]
) -> Actor:
    return Actor(visit, house, await signed_in("support"), caller.account_id)


async def jobs_of(actor: Actor) -> list[Job]:
    async with actor.house.sessions() as db:
        mine = select(Job).where(Job.account_id == actor.account_id).order_by(Job.created_at)
        return list(await db.scalars(mine))


async def told_job(actor: Actor, job_id: UUID) -> UUID:
    """Leave a delivery of this job that has failed for good."""
    async with actor.house.sessions.begin() as db:
        delivery = WebhookDelivery(
            id=uuid4(),
            account_id=actor.account_id,
            job_id=job_id,
            kind="cutout.failed",
            url="https://receiver.example/hook",
            facts={},
            state=FAILED,
            attempt=8,
            tries=8,
            finished_at=func.now(),
        )
        db.add(delivery)
        return delivery.id


async def test_a_failed_job_is_run_again_from_its_upload(
    support: Actor, caller: Caller, work: WorkOff
) -> None:
    job_id = await caller.submit(b"no picture")
    await work()
    # What made it fail has been put right meanwhile.
    storage = support.house.cutouts.storage
    await storage.put(f"sources/{job_id}/source", encoded_photograph("coffee"))

    await support.visit.open(support.here)
    await support.page.get_by_role("link", name=f"Run job {str(job_id)[:8]} again").click()
    await support.page.get_by_label("Reason").fill(REASON)
    await support.page.get_by_role("button", name="Show what it does").click()
    assert (await support.effect())["Held"] == ("0", "25")
    assert len(await jobs_of(support)) == 1
    form = await support.page.eval_on_selector(
        "main form", "form => Object.fromEntries(new FormData(form))"
    )
    await support.confirm()
    await support.told("A new job is queued for it.")
    await support.page.request.post(f"{support.visit.address}{support.here}/acts/rerun", form=form)
    await work()

    failed, again = await jobs_of(support)
    assert (failed.state, again.state) == (FAILED, SUCCEEDED)
    assert (await support.balance()).available == 225
    await support.is_in_the_trail("job.rerun")
    await support.books_are_right()


async def test_without_its_upload_a_job_is_not_run_again(
    support: Actor, caller: Caller, work: WorkOff
) -> None:
    support.visit.expected.append("422")
    job_id = await caller.submit(b"no picture")
    await work()
    await support.house.cutouts.storage.delete(f"sources/{job_id}/source")

    await support.ask(f"rerun?job={job_id}", {})

    await expect(support.page.get_by_role("alert")).to_contain_text("upload is gone")
    assert len(await jobs_of(support)) == 1


async def test_a_webhook_is_told_again(support: Actor, caller: Caller, work: WorkOff) -> None:
    job_id = await caller.submit(b"no picture")
    await work()
    delivery_id = await told_job(support, job_id)

    await support.visit.open(support.here)
    await support.page.get_by_role("link", name=f"Replay delivery {str(delivery_id)[:8]}").click()
    await support.page.get_by_label("Reason").fill(REASON)
    await support.page.get_by_role("button", name="Show what it does").click()
    await support.confirm()

    await support.told("A worker tells it again")
    async with support.house.sessions() as db:
        delivery = await db.get_one(WebhookDelivery, delivery_id)
    assert (delivery.state, delivery.tries) == (PENDING, 0)
    await support.is_in_the_trail("webhook.replay")


async def test_a_note_is_written_once_and_stays(support: Actor) -> None:
    words = "Wants invoices by post <script>alert(1)</script>"
    await support.visit.open(support.here)
    form = await support.page.eval_on_selector(
        'form[action$="/notes"]', "form => Object.fromEntries(new FormData(form))"
    )
    await support.page.get_by_label("New note").fill(words)
    await support.page.get_by_role("button", name="Add the note").click()
    await expect(support.page.locator(".note")).to_contain_text(words)
    again = f"{support.visit.address}{support.here}/notes"
    await support.page.request.post(again, form=form | {"body": words})

    async with support.house.sessions() as db:
        mine = select(AccountNote).where(AccountNote.account_id == support.account_id)
        (note,) = await db.scalars(mine)
    assert (note.body, note.actor) == (words, f"staff:{support.email}")
    assert len(await support.events("account.note")) == 1
