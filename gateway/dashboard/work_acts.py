"""Acts on what was made and told: a webhook told again, a failed job run again."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from gateway import jobs
from gateway.dashboard.act_forms import Act, Deed, Facts, Field, Values
from gateway.reruns import Again, open_again
from gateway.tables import Job, WebhookDelivery
from gateway.web.refusals import MissingPageError
from gateway.webhooks.deliverer import name_of
from gateway.webhooks.replays import replay_delivery


async def _replay(db: AsyncSession, deed: Deed) -> None:
    delivery = await _own_delivery(db, deed.account_id, deed.values)
    await replay_delivery(db, delivery.id, actor=deed.actor, reason=deed.reason)


async def _own_delivery(db: AsyncSession, account_id: UUID, values: Values) -> WebhookDelivery:
    delivery = await db.get(WebhookDelivery, values["delivery"], populate_existing=True)
    if delivery is None or delivery.account_id != account_id:
        raise MissingPageError
    return delivery


async def _describe_delivery(db: AsyncSession, account_id: UUID, values: Values) -> Facts:
    delivery = await _own_delivery(db, account_id, values)
    return (
        ("Delivery", name_of(delivery.id)),
        ("Tells of", delivery.kind),
        ("Sent to", delivery.url),
        ("State", f"{delivery.state} after {delivery.attempt} attempts"),
    )


async def _rehearse_rerun(db: AsyncSession, deed: Deed) -> None:
    """Place the hold and queue the job, without a picture: it is taken back."""
    job = await _own_job(db, deed.account_id, deed.values)
    await deed.tools.reruns.find(job.id)
    keys = {"source_key": jobs.source_key(deed.act_id)}
    ttl = deed.tools.reruns.settings.hold_ttl
    await open_again(db, job, Again(deed.act_id, keys, ttl, deed.actor, deed.reason))


async def _rerun(deed: Deed) -> None:
    async with deed.tools.sessions() as db:
        await _own_job(db, deed.account_id, deed.values)
    await deed.tools.reruns.run(
        deed.values["job"], act_id=deed.act_id, actor=deed.actor, reason=deed.reason
    )


async def _own_job(db: AsyncSession, account_id: UUID, values: Values) -> Job:
    return await jobs.find(db, values["job"], account_id)


async def _describe_job(db: AsyncSession, account_id: UUID, values: Values) -> Facts:
    job = await _own_job(db, account_id, values)
    return (
        ("Job", job.id),
        ("Asked for", f"{job.model_asked}, {job.dialect}"),
        ("State", f"{job.state}{f': {job.error_code}' if job.error_code else ''}"),
        ("Webhook", job.webhook_url or "none"),
    )


WORK_ACTS: Final[Sequence[Act]] = (
    Act(
        "replay",
        "Replay a webhook",
        "support",
        _replay,
        "A worker tells it again within a second.",
        (Field("delivery", "Delivery", "fixed"),),
        explains="The same event, under the same id, for another day.",
        describe=_describe_delivery,
    ),
    Act(
        "rerun",
        "Run a failed job again",
        "support",
        _rehearse_rerun,
        "A new job is queued for it.",
        (Field("job", "Job", "fixed"),),
        explains="A new job from the upload that was kept, with a hold and, if it succeeds, a"
        " charge of its own. Its end is told to the same webhook, under the new job’s id.",
        describe=_describe_job,
        execute=_rerun,
    ),
)
