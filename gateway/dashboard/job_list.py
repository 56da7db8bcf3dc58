"""Which jobs a list shows: by state, account, model, error and time, a page at a time.

Pages are cut by time and id, not counted: the last of a million is as quick as the first, and what
arrives meanwhile moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing.tables import Account
from gateway.dashboard.asked import address, id_in, moment_in, word_in
from gateway.tables import CANCELED, FAILED, PROCESSING, QUEUED, SUCCEEDED, Job

HERE: Final = "/admin/jobs"
STATES: Final = (QUEUED, PROCESSING, SUCCEEDED, FAILED, CANCELED)
ROWS_PER_PAGE: Final = 50
COUNTED_MAX: Final = 1_000
RECENT: Final = timedelta(days=7)
"""How far back a model is looked for where nothing else is said: no index knows models."""
ACCOUNTS_MAX: Final = 100
"""Accounts of one name whose jobs are listed together."""
# A literal, not a parameter: the partial index is of this very condition.
HAS_FAILED: Final = text("job.state = 'failed'")
NAMES: Final = ("state", "account", "model", "error", "since", "until")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What is asked for; each None or empty asks for all."""

    asked: Mapping[str, str]
    state: str
    account: str
    model: str
    error: str
    since: datetime | None
    until: datetime | None
    is_recent_only: bool
    """Nobody said from when, and only what is recent is looked through."""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "JobFilter":
        """Read an address. Raises FormError where a time is none."""
        asked = {name: word for name in NAMES if (word := word_in(query, name))}
        is_recent_only = "model" in asked and not asked.keys() & {"account", "error", "since"}
        return cls(
            asked=asked,
            state=asked.get("state", ""),
            account=asked.get("account", ""),
            model=asked.get("model", ""),
            error=asked.get("error", ""),
            since=moment_in(query, "since"),
            until=moment_in(query, "until", is_end=True),
            is_recent_only=is_recent_only,
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.state:
            found.append(Job.state == self.state)
        if self.account:
            found.append(self._of_account())
        if self.model:
            found.append(func.coalesce(Job.model_ran, Job.model_asked) == self.model)
        if self.error:
            found.append(and_(HAS_FAILED, Job.error_code == self.error))
        if self.since is not None:
            found.append(Job.created_at >= self.since)
        if self.is_recent_only:
            found.append(Job.created_at >= (self.until or datetime.now(UTC)) - RECENT)
        if self.until is not None:
            found.append(Job.created_at < self.until)
        return found

    def _of_account(self) -> ColumnElement[bool]:
        account_id = id_in(self.account)
        if account_id is not None:
            return Job.account_id == account_id
        pattern = "%" + self.account.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        named = select(Account.id).where(Account.name.ilike(pattern + "%")).limit(ACCOUNTS_MAX)
        return Job.account_id.in_(named)


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs with their accounts' names, newest first, and where the pages beside this one are."""

    rows: list[Any]
    count: int
    """All that the filter finds, at most `COUNTED_MAX`."""
    older: str
    newer: str


async def find_jobs(db: AsyncSession, chosen: JobFilter, query: Mapping[str, str]) -> JobPage:
    """Give the page that `query` asks for by `before` or `after`; else the newest."""
    before, after = _cursor(query.get("before", "")), _cursor(query.get("after", ""))
    found = _listed(chosen)
    key = tuple_(Job.created_at, Job.id)
    if after:
        found = found.where(key > after).order_by(Job.created_at, Job.id)
    else:
        if before:
            found = found.where(key < before)
        found = found.order_by(Job.created_at.desc(), Job.id.desc())
    rows = list((await db.execute(found.limit(ROWS_PER_PAGE + 1))).all())
    has_more, rows = len(rows) > ROWS_PER_PAGE, rows[:ROWS_PER_PAGE]
    if after:
        rows.reverse()
    has_older = bool(after) or has_more
    has_newer = has_more if after else bool(before)
    is_all = not (before or after or has_more)
    return JobPage(
        rows=rows,
        count=len(rows) if is_all else await _count(db, chosen),
        older=address(HERE, chosen.asked, before=_mark(rows[-1])) if rows and has_older else "",
        newer=address(HERE, chosen.asked, after=_mark(rows[0])) if rows and has_newer else "",
    )


def _listed(chosen: JobFilter) -> Select[*tuple[Any, ...]]:
    return (
        select(
            Job.id,
            Job.state,
            Job.created_at,
            Job.started_at,
            Job.finished_at,
            Job.account_id,
            Account.name.label("account"),
            func.coalesce(Job.model_ran, Job.model_asked).label("model"),
            Job.dialect,
            Job.attempt,
            Job.charged_credits,
            Job.error_code,
        )
        .join(Account, Account.id == Job.account_id)
        .where(*chosen.conditions())
    )


async def _count(db: AsyncSession, chosen: JobFilter) -> int:
    found = select(Job.id).where(*chosen.conditions()).limit(COUNTED_MAX).subquery()
    return await db.scalar(select(func.count()).select_from(found)) or 0


def _mark(row: Any) -> str:
    return f"{row.created_at.astimezone(UTC).isoformat()}~{row.id}"


def _cursor(text: str) -> tuple[datetime, UUID] | None:
    """Read where a page begins; what cannot be read begins at the newest."""
    at, _, job_id = text.partition("~")
    try:
        return datetime.fromisoformat(at).replace(tzinfo=UTC), UUID(job_id)
    except ValueError:
        return None
