"""The list of accounts: searched, filtered, sorted, a page at a time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.keys import ID_LENGTH, PREFIXES
from billing.plans import DEFAULT_PLANS

PAGE_ROWS: Final = 50
QUERY_LENGTH_MAX: Final = 100
SORTS: Final = {
    "name": "lower(a.name)",
    "plan": "v.price_minor",
    "available": "c.available",
    "used": "c.consumed - p.consumed_before",
    "created": "a.created_at",
}
STATUSES: Final = ("active", "suspended", "closed")

# Tables by the letter that a sort or a filter names them with.
JOINS: Final = {
    "c": "JOIN credit_account c ON c.account_id = a.id",
    "s": "LEFT JOIN subscription s ON s.account_id = a.id AND s.ended_at IS NULL",
    "v": "LEFT JOIN plan_version v ON v.id = s.plan_version_id",
    "p": "LEFT JOIN billing_period p ON p.account_id = a.id AND p.period_start = s.period_start",
}
NEEDS: Final = {"name": "", "plan": "sv", "available": "c", "used": "csp", "created": ""}

# All accounts are only sorted, with no more of each than that takes; the page's own are read whole.
LIST: Final = """
    SELECT a.id, a.name, a.status, a.created_at, v.plan, w.plan AS next_plan, c.available, c.held,
        coalesce(c.consumed - p.consumed_before, 0) AS used, s.period_end, chosen.all_count
    FROM (
        SELECT a.id, row_number() OVER (ORDER BY {order} {direction} NULLS LAST, a.id) AS place,
            count(*) OVER () AS all_count
        FROM account a {needed}
        WHERE {where}
        ORDER BY {order} {direction} NULLS LAST, a.id
        LIMIT :rows_max OFFSET :skipped
    ) chosen
    JOIN account a ON a.id = chosen.id
    {c} {s} {v} {p}
    LEFT JOIN plan_version w ON w.id = s.next_plan_version_id
    ORDER BY chosen.place
"""
WHERE: Final = {
    "status": "a.status = :status",
    "plan": "v.plan = :plan",
    "name": "(a.name ILIKE :name OR a.id::text LIKE :id_prefix"
    " OR a.id IN (SELECT k.account_id FROM api_key k WHERE k.key_id LIKE :key_prefix))",
}


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody looks for."""

    words: str = ""
    """Part of a name; or how an account's id, or a key's, begins. A whole key is read as its id."""
    status: str | None = None
    plan: str | None = None
    sort: str = "name"
    is_descending: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One account of the list; `used` is in its present period."""

    id: UUID
    name: str
    status: str
    created_at: datetime
    plan: str | None
    next_plan: str | None
    available: int
    held: int
    used: int
    period_end: datetime | None


async def find_accounts(
    db: AsyncSession, search: Search, *, rows_max: int = PAGE_ROWS
) -> tuple[list[AccountLine], int]:
    """List a page of the accounts that fit, and tell how many do in all.

    Past the last page there is nothing, not even the number.
    """
    words = search.words.strip()[:QUERY_LENGTH_MAX]
    asked: dict[str, Any] = {"rows_max": rows_max, "skipped": (search.page - 1) * rows_max}
    conditions = []
    for name, value in (("status", search.status), ("plan", search.plan), ("name", words)):
        if value:
            conditions.append(WHERE[name])
            asked[name] = value
    if words:
        asked["name"] = f"%{_literal(words)}%"
        asked["id_prefix"] = f"{_literal(words.lower())}%"
        asked["key_prefix"] = f"{_literal(key_id_in(words))}%"
    needed = NEEDS[search.sort] + ("sv" if search.plan else "")
    query = LIST.format(
        **JOINS,
        order=SORTS[search.sort],
        direction="DESC" if search.is_descending else "ASC",
        needed=" ".join(join for letter, join in JOINS.items() if letter in needed),
        where=" AND ".join(conditions) or "true",
    )
    rows = (await db.execute(text(query), asked)).all()
    return [AccountLine(*row[:-1]) for row in rows], rows[0].all_count if rows else 0


async def plan_codes(db: AsyncSession) -> list[str]:
    """Name the plans there are, cheapest first."""
    rows = await db.scalars(
        text("SELECT plan FROM plan_version GROUP BY plan ORDER BY min(price_minor), plan")
    )
    return list(rows)


async def price_list(db: AsyncSession) -> list[tuple[str, int]]:
    """List the plans that an account can be moved to, cheapest first, with their credits a month.

    On an empty list they are those that the first account brings with it.
    """
    rows = await db.execute(
        text(
            "SELECT plan, monthly_credits FROM (SELECT DISTINCT ON (plan) * FROM plan_version"
            " ORDER BY plan, version DESC) newest ORDER BY price_minor, monthly_credits, plan"
        )
    )
    offered = [(row.plan, int(row.monthly_credits)) for row in rows]
    return offered or [(plan, columns[0]) for plan, columns in DEFAULT_PLANS.items()]


def key_id_in(words: str) -> str:
    """Find a key's id in what may be a whole key, of which nothing else is looked at."""
    for prefix in PREFIXES.values():
        if words.startswith(prefix):
            return words.removeprefix(prefix)[:ID_LENGTH]
    return words


def _literal(words: str) -> str:
    """Take from a pattern's characters their meaning."""
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
