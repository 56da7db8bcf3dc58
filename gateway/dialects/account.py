"""Our own customer endpoint, in no dialect's shape: the price before the call, and the means.

Problems are those of RFC 9457.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.budgets import Budget
from billing.periods import live_subscription
from billing.pricing import price_of
from billing.tables import Account, CreditGrant
from gateway.auth import Caller
from gateway.dialects.door import AS_BEARER, AS_X_API_KEY, PATIENCE, Door, bearer_of
from gateway.dialects.headers import REMAINING
from gateway.dialects.means import Means
from gateway.errors import Problem
from gateway.settings import Settings
from gateway.transactions import persist

SCOPE: Final = "read"
PROBLEM_JSON: Final = "application/problem+json"
SOON: Final = timedelta(days=7)
"""Credits that end within this time are told of."""


def shape_problem(problem: Problem, words: str) -> Response[Any]:
    return Response(
        refusal_document(problem, words), status_code=problem.status, media_type=PROBLEM_JSON
    )


def refusal_document(problem: Problem, words: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": words,
        "code": problem.code,
    }


async def account_caller(request: Request[Any, Any, Any], door: NamedDependency[Door]) -> Caller:
    key = request.headers.get("x-api-key") or bearer_of(request)
    return await door.enter(request, key, scope=SCOPE, send_as=f"{AS_BEARER} or {AS_X_API_KEY}")


class AccountController(Controller):
    @get("/v1/account", dependencies={"caller": Provide(account_caller)})
    async def read_account(
        self,
        caller: NamedDependency[Caller],
        door: NamedDependency[Door],
        settings: NamedDependency[Settings],
    ) -> Response[dict[str, Any]]:
        """Tell what a call costs, what the account has, and what the key may do."""

        async def read(db: AsyncSession) -> dict[str, Any]:
            return await account_facts(db, caller)

        facts = await persist(door.sessions, read, patience=PATIENCE)
        content = facts | {"limits": limits_of(caller, settings)}
        remaining = facts["credits"]["available_to_key"]
        headers = {REMAINING: str(remaining), "Cache-Control": "no-store"}
        return Response(content, headers=headers)


async def account_facts(db: AsyncSession, caller: Caller) -> dict[str, Any]:
    account_id = caller.key.account_id
    balance = await ledger.balance_of(db, account_id)  # first: it may open a new period
    means = await Means.read(db, caller.key, balance)
    account = await db.get_one(Account, account_id)
    subscription = await live_subscription(db, account_id)
    return {
        "account_id": str(account_id),
        "name": account.name,
        "status": account.status,
        "plan": caller.key.plan,
        "environment": caller.key.env,
        "price_credits": price_of(caller.key.env),
        "credits": {
            "balance": balance.available + balance.held,
            "held": balance.held,
            "available": balance.available,
            "available_to_key": means.remaining,
            "credit_limit": balance.credit_limit,
            "expiring_soon": await _expiring_soon(db, account_id),
        },
        "budget": _budget_document(means.budget),
        "period_end": _moment(subscription.period_end) if subscription else None,
    }


def _budget_document(budget: Budget | None) -> dict[str, Any] | None:
    """Tell the key's own budget; None where it has none."""
    if budget is None:
        return None
    return {
        "credits": budget.credits,
        "used": budget.used,
        "left": budget.left,
        "period_end": _moment(budget.period_end),
    }


async def _expiring_soon(db: AsyncSession, account_id: Any) -> dict[str, Any] | None:
    """Sum what ends within `SOON`, and tell when the first of it does; None where nothing does."""
    ending = await db.execute(
        select(func.sum(CreditGrant.remaining), func.min(CreditGrant.expires_at)).where(
            CreditGrant.account_id == account_id,
            CreditGrant.closed_at.is_(None),
            CreditGrant.remaining > 0,
            CreditGrant.expires_at <= func.now() + SOON,
        )
    )
    credits_ending, first_at = ending.one()
    if first_at is None:
        return None
    return {"credits": int(credits_ending), "at": _moment(first_at)}


def limits_of(caller: Caller, settings: Settings) -> dict[str, Any]:
    return {
        "rate_per_minute": caller.key.rate_per_minute,
        "burst": caller.key.burst,
        "concurrency_max": caller.key.concurrency_max,
        "queue_class": caller.key.queue_class,
        "upload_bytes_max": settings.upload_bytes_max,
        "image_pixels_max": settings.image_pixels_max,
        "image_edge_px_max": settings.image_edge_px_max,
        "image_ratio_max": settings.image_ratio_max,
        "image_frames_max": 1,
        "processing_seconds_max": settings.inference_deadline.total_seconds(),
        "result_seconds": caller.key.result_ttl.total_seconds(),
        "link_seconds": min(settings.link_ttl, caller.key.result_ttl).total_seconds(),
    }


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
