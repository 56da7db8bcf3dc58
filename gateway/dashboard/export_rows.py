"""The rows of an export, a page at a time: each page is a short transaction of its own.

So a slow reader holds no transaction open, and a year of the ledger needs the memory of a page. An
operation's entries are on one page: what is exported sums to zero, whenever it is asked for.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.spreadsheet import safe_cell

TXNS_PER_PAGE: Final = 500
"""Written in some milliseconds, in which the gateway answers nobody else."""
EVENTS_PER_PAGE: Final = 500
DAY: Final = timedelta(days=1)
PATIENCE: Final = text("SET LOCAL statement_timeout = '60s'")

LEDGER_HEADS: Final = (
    *("at", "account_id", "account", "account_seq", "op", "ref", "actor", "reason"),
    *("txn_id", "line", "bucket", "grant_id", "amount", "balance_after"),
)
# Nothing is dated later than it is written: that bound is the one that has an index.
LEDGER: Final = text(
    """
    SELECT t.effective_at AS at, t.account_id, a.name AS account, t.account_seq,
        CAST(t.op AS text) AS op, t.ref, t.actor, t.reason, t.id AS txn_id, e.line,
        CAST(e.bucket AS text) AS bucket, e.grant_id, e.amount, e.balance_after
    FROM (
        SELECT * FROM ledger_txn
        WHERE id > :after AND effective_at >= :since AND effective_at < :until
            AND created_at >= :since
            AND (CAST(:account_id AS uuid) IS NULL OR account_id = :account_id)
        ORDER BY id LIMIT :rows_max
    ) t
    JOIN account a ON a.id = t.account_id
    JOIN ledger_entry e ON e.txn_id = t.id
    ORDER BY t.id, e.line
    """
)
USAGE_HEADS: Final = (
    *("day", "account_id", "account", "api_key_id", "key", "model", "dialect"),
    *("succeeded", "failed", "charged_credits"),
)
USAGE: Final = text(
    """
    SELECT CAST(:day AS date) AS day, u.account_id, a.name AS account, u.api_key_id,
        coalesce(k.name, '') AS key, u.model, u.dialect, u.succeeded, u.failed, u.charged_credits
    FROM (
        SELECT h.account_id, h.api_key_id, coalesce(j.model_ran, j.model_asked, '') AS model,
            coalesce(j.dialect, '') AS dialect,
            count(*) FILTER (WHERE h.state = 'captured') AS succeeded,
            count(*) FILTER (WHERE h.state <> 'captured') AS failed,
            coalesce(sum(h.amount) FILTER (WHERE h.state = 'captured'), 0) AS charged_credits
        FROM hold h LEFT JOIN job j ON j.id = h.job_id
        WHERE h.settled_at >= :since AND h.settled_at < :until
            AND (CAST(:account_id AS uuid) IS NULL OR h.account_id = :account_id)
        GROUP BY 1, 2, 3, 4
    ) u
    JOIN account a ON a.id = u.account_id
    LEFT JOIN api_key k ON k.id = u.api_key_id
    ORDER BY a.name, u.account_id, u.api_key_id, u.model, u.dialect
    """
)
AUDIT_HEADS: Final = (
    *("seq", "at", "actor", "action", "object", "account_id", "reason", "before", "after"),
    *("request_id", "prev_hash", "hash"),
)
AUDIT: Final = text(
    """
    SELECT seq, at, actor, action, object, account_id, reason, before, after, request_id,
        encode(prev_hash, 'hex') AS prev_hash, encode(hash, 'hex') AS hash
    FROM audit_event
    WHERE seq > :after AND at >= :since AND at < :until
        AND (CAST(:account_id AS uuid) IS NULL OR account_id = :account_id)
    ORDER BY seq LIMIT :rows_max
    """
)


async def ledger_csv(
    sessions: SessionFactory, since: datetime, until: datetime, account_id: UUID | None
) -> AsyncIterator[str]:
    """Give every entry of the operations with `since` <= time < `until`."""
    yield written([LEDGER_HEADS])
    asked: dict[str, Any] = {
        "after": 0,
        "since": since,
        "until": until,
        "account_id": account_id,
        "rows_max": TXNS_PER_PAGE,
    }
    while rows := await _page(sessions, LEDGER, asked):
        yield written(rows)
        asked["after"] = rows[-1].txn_id


async def usage_csv(
    sessions: SessionFactory, since: datetime, until: datetime, account_id: UUID | None
) -> AsyncIterator[str]:
    """Give what was called with `since` <= time < `until`, a day (UTC) at a time."""
    yield written([USAGE_HEADS])
    day = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < until:
        bounds = {"since": max(day, since), "until": min(day + DAY, until)}
        asked = {"day": day.date(), "account_id": account_id, **bounds}
        if rows := await _page(sessions, USAGE, asked):
            yield written(rows)
        day += DAY


async def audit_csv(
    sessions: SessionFactory, since: datetime, until: datetime, account_id: UUID | None
) -> AsyncIterator[str]:
    """Give every act with `since` <= time < `until`, with the hashes that chain it."""
    yield written([AUDIT_HEADS])
    asked: dict[str, Any] = {
        "after": 0,
        "since": since,
        "until": until,
        "account_id": account_id,
        "rows_max": EVENTS_PER_PAGE,
    }
    while rows := await _page(sessions, AUDIT, asked):
        yield written(rows)
        asked["after"] = rows[-1].seq


def written(rows: Iterable[Iterable[Any]]) -> str:
    """Write rows as CSV that a spreadsheet shows and does not run."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [safe_cell(_cell(cell)) for cell in row] for row in rows
    )
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return value if isinstance(value, int) or value is None else str(value)


async def _page(sessions: SessionFactory, query: Any, asked: dict[str, Any]) -> Sequence[Any]:
    async def read(db: AsyncSession) -> Sequence[Any]:
        await db.execute(PATIENCE)
        return (await db.execute(query, asked)).all()

    async with sessions() as db:
        return await read(db)
