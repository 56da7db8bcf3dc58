"""Where in an account's sequence of operations a time lies.

Found by halving, in some twenty looks at the sequence's own index: time and sequence run the same
way and the sequence has no gap (I5, I17). An index on the time would find it too, and be written to
by every hold and capture.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

LAST_BEFORE: Final = text(
    """
    WITH RECURSIVE half (low, high) AS (
        SELECT 0::bigint, coalesce(
            (SELECT max(t.account_seq) FROM ledger_txn t WHERE t.account_id = :account_id), 0)
        UNION ALL
        SELECT CASE WHEN t.effective_at < :moment THEN t.account_seq ELSE half.low END,
               CASE WHEN t.effective_at < :moment THEN half.high ELSE t.account_seq - 1 END
        FROM half JOIN ledger_txn t
            ON t.account_id = :account_id AND t.account_seq = (half.low + half.high + 1) / 2
        WHERE half.low < half.high
    )
    SELECT half.low FROM half WHERE half.low = half.high
    """
)


async def last_before(db: AsyncSession, account_id: UUID, moment: datetime) -> int:
    """Tell the number of the account's last operation with a time < `moment`; 0 for none."""
    found = await db.scalar(LAST_BEFORE, {"account_id": account_id, "moment": moment})
    return int(found or 0)
