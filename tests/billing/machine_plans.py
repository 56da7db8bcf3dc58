"""The plans of the state machine, and of the proofs that need plans of few credits."""

from datetime import timedelta

from sqlalchemy import select

from billing import plans
from billing.db import SessionFactory
from billing.tables import Plan
from tests.billing.model import ModelPlan

PLANS = {
    "machine-small": ModelPlan("machine-small", 100, 60, 2),
    "machine-large": ModelPlan("machine-large", 400, 400, 3),
    "machine-lean": ModelPlan("machine-lean", 150, 0, 0),
    "machine-bare": ModelPlan("machine-bare", 0, 50, 1),
}


async def ensure_machine_plans(sessions: SessionFactory) -> None:
    """Put the machine's plans on the price list, once."""
    async with sessions.begin() as db:
        for plan in PLANS.values():
            if await db.scalar(select(Plan.code).where(Plan.code == plan.name)):
                continue
            await plans.add_version(
                db,
                plan.name,
                actor="test",
                reason="the machine's",
                monthly_credits=plan.credits,
                price_minor=0,
                currency="USD",
                rollover_cap=plan.cap,
                rollover_periods=plan.periods,
                rate_per_minute=1,
                burst=1,
                concurrency_max=1000,
                queue_class="standard",
                result_ttl=timedelta(hours=1),
            )
