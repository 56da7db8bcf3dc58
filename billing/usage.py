"""What was called: by day, key, model and dialect.

Billing keeps when a job was held for, settled and for how much, and under which key. The model and
the dialect are the gateway's to know. A hidden dependency, and on purpose: the gateway's `job`
table is read here by name (its columns id, dialect, model_ran and model_asked), since billing
imports nothing of the gateway. Whoever renames one of them there changes it here.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Date, Text, cast, column, func, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from billing.tables import ApiKey, Hold

JOB = table("job", column("id"), column("dialect"), column("model_ran"), column("model_asked"))


@dataclass(frozen=True, slots=True)
class UsageLine:
    """The calls of one day with one key, model and dialect; days are UTC's."""

    day: date
    api_key_id: UUID | None
    key_name: str
    model: str
    dialect: str
    succeeded: int
    failed: int
    charged_credits: int


async def usage(
    db: AsyncSession, account_id: UUID, *, since: datetime, until: datetime
) -> list[UsageLine]:
    """List what was settled with `since` <= time < `until`; failed calls are there and cost 0."""
    day = cast(func.timezone("UTC", Hold.settled_at), Date).label("day")
    model = func.coalesce(JOB.c.model_ran, JOB.c.model_asked, cast("", Text)).label("model")
    dialect = func.coalesce(JOB.c.dialect, cast("", Text)).label("dialect")
    is_good = Hold.state == "captured"
    rows = await db.execute(
        select(
            day,
            Hold.api_key_id,
            func.coalesce(ApiKey.name, "").label("key_name"),
            model,
            dialect,
            func.count().filter(is_good).label("succeeded"),
            func.count().filter(~is_good).label("failed"),
            func.coalesce(func.sum(Hold.amount).filter(is_good), 0).label("charged_credits"),
        )
        .select_from(Hold)
        .outerjoin(JOB, JOB.c.id == Hold.job_id)
        .outerjoin(ApiKey, ApiKey.id == Hold.api_key_id)
        .where(Hold.account_id == account_id, Hold.settled_at >= since, Hold.settled_at < until)
        .group_by(day, Hold.api_key_id, ApiKey.name, model, dialect)
        .order_by(day, Hold.api_key_id, model, dialect)
    )
    return [
        UsageLine(
            day=row.day,
            api_key_id=row.api_key_id,
            key_name=row.key_name,
            model=row.model,
            dialect=row.dialect,
            succeeded=row.succeeded,
            failed=row.failed,
            charged_credits=int(row.charged_credits),
        )
        for row in rows
    ]
