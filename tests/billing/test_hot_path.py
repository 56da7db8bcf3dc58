"""What makes a hold fast stays: plans that are kept, each by a key."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

CONFIGURATION = text("SELECT proconfig FROM pg_proc WHERE proname = :name")


@pytest.mark.parametrize("function", ["ledger_post", "place_hold", "capture_hold"])
async def test_a_function_of_the_hot_path_plans_once_and_by_keys(
    db: AsyncSession, function: str
) -> None:
    settings = await db.scalar(CONFIGURATION, {"name": function})
    assert {"plan_cache_mode=force_generic_plan", "enable_seqscan=off"} <= set(settings)
