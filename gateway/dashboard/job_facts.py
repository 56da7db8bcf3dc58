"""All that is known of one job: its money, its webhooks, its times, and what of it still lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.tables import Account, ApiKey, CreditGrant, Hold, HoldSlice, LedgerTxn
from gateway.errors import INTERNAL, PROBLEMS
from gateway.heart import PROGRESS
from gateway.tables import SUCCEEDED, Job, WebhookAttempt, WebhookDelivery
from gateway.web.refusals import MissingPageError
from gateway.webhooks.deliverer import name_of

TITLES: Final = {INTERNAL.code: INTERNAL.title} | {
    name: problem.title
    for kind, problem in reversed(PROBLEMS.items())
    for name in (problem.code, kind.__name__)
}
"""By a job's error code, and more exactly by its kind."""
ERROR_CODES: Final = sorted({problem.code for problem in (*PROBLEMS.values(), INTERNAL)})
NO_PICTURES: Final = frozenset({"unreadable_image", "unsupported_format"})


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job and what belongs to it."""

    job: Job
    account: Account
    key: ApiKey
    hold: Hold | None
    slices: Sequence[Any]
    """Which grants paid, as (amount, source, grant's id); no source: the credit limit."""
    txns: Sequence[LedgerTxn]
    """What the ledger did for it: hold, capture or release, refund."""
    delivery: WebhookDelivery | None
    attempts: Sequence[WebhookAttempt]

    @property
    def delivery_name(self) -> str:
        """The `webhook-id`, as its receiver got it."""
        return name_of(self.delivery.id) if self.delivery else ""

    @property
    def error_title(self) -> str:
        by_code = TITLES.get(self.job.error_code or "", INTERNAL.title)
        return TITLES.get(self.job.error_kind or "", by_code)

    @property
    def is_source_shown(self) -> bool:
        """Whether a browser has a chance to show what was uploaded."""
        return self.job.error_code not in NO_PICTURES

    @property
    def stages(self) -> list[tuple[str, float]]:
        """How long each stage took, in ms and in their order, which JSONB does not keep."""
        took = self.job.stages_ms
        known = [(stage, took[stage]) for stage in PROGRESS if stage in took]
        return known + [(stage, ms) for stage, ms in took.items() if stage not in PROGRESS]

    @property
    def is_refunded(self) -> bool:
        return any(txn.op == "refund" for txn in self.txns)

    @property
    def waited(self) -> timedelta | None:
        return _between(self.job.created_at, self.job.started_at)

    @property
    def worked(self) -> timedelta | None:
        return _between(self.job.started_at, self.job.finished_at)

    @property
    def took(self) -> timedelta | None:
        return _between(self.job.created_at, self.job.finished_at)

    def lives(self, now: datetime) -> bool:
        """Whether the result is still kept for its customer."""
        job = self.job
        is_kept = job.state == SUCCEEDED and job.purged_at is None
        return is_kept and job.result_expires_at is not None and job.result_expires_at > now


async def facts_of(db: AsyncSession, job_id: UUID) -> JobFacts:
    """Read a job with all that belongs to it. Raises MissingPageError where there is none."""
    found = await db.execute(
        select(Job, Account, ApiKey, Hold, WebhookDelivery)
        .join(Account, Account.id == Job.account_id)
        .join(ApiKey, ApiKey.id == Job.api_key_id)
        .outerjoin(Hold, Hold.job_id == Job.id)
        .outerjoin(WebhookDelivery, WebhookDelivery.job_id == Job.id)
        .where(Job.id == job_id)
    )
    known = found.one_or_none()
    if known is None:
        raise MissingPageError
    job, account, key, hold, delivery = known
    slices = await db.execute(
        select(HoldSlice.amount, CreditGrant.source, HoldSlice.grant_id)
        .outerjoin(CreditGrant, CreditGrant.id == HoldSlice.grant_id)
        .where(HoldSlice.job_id == job_id)
        .order_by(HoldSlice.line)
    )
    txns = await db.scalars(
        select(LedgerTxn)
        .where(LedgerTxn.account_id == job.account_id, LedgerTxn.ref == str(job_id))
        .where(LedgerTxn.op.in_(("hold", "capture", "release", "refund")))
        .order_by(LedgerTxn.account_seq)
    )
    attempts: Sequence[WebhookAttempt] = ()
    if delivery is not None:
        made = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery.id)
        attempts = (await db.scalars(made.order_by(WebhookAttempt.number))).all()
    return JobFacts(
        job=job,
        account=account,
        key=key,
        hold=hold,
        slices=slices.all(),
        txns=txns.all(),
        delivery=delivery,
        attempts=attempts,
    )


def _between(since: datetime | None, until: datetime | None) -> timedelta | None:
    return until - since if since is not None and until is not None else None
