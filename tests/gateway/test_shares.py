"""What one gateway has under way at once, and how much of it one account."""

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest

from gateway.errors import OverloadedError
from gateway.shares import Shares

ANNA, BERT = uuid4(), uuid4()


async def take(shares: Shares, stack: AsyncExitStack, account_id: UUID) -> None:
    await stack.enter_async_context(shares.one(account_id))


async def test_past_the_whole_everybody_is_refused_at_once() -> None:
    shares = Shares(8, patience_s=60)
    async with AsyncExitStack() as stack:
        for account_id in [uuid4() for _ in range(4)] * 2:
            await take(shares, stack, account_id)
        with pytest.raises(OverloadedError):
            await take(shares, stack, uuid4())
    async with shares.one(ANNA):
        pass


async def test_an_account_past_its_quarter_waits_for_its_own() -> None:
    shares = Shares(4, patience_s=60)
    async with AsyncExitStack() as others:
        async with shares.one(ANNA):
            second = asyncio.create_task(take(shares, others, ANNA))
            await take(shares, others, BERT)
            assert not second.done()
        await asyncio.wait_for(second, 5)


async def test_a_share_that_stays_taken_refuses_after_a_while() -> None:
    shares = Shares(4, patience_s=0.05)
    async with shares.one(ANNA):
        with pytest.raises(OverloadedError):
            await take(shares, AsyncExitStack(), ANNA)


async def test_whoever_leaves_while_he_waits_takes_nothing_along() -> None:
    shares = Shares(4, patience_s=60)
    async with AsyncExitStack() as stack:
        async with shares.one(ANNA):
            waiting = [asyncio.create_task(take(shares, stack, ANNA)) for _ in range(20)]
            await asyncio.sleep(0)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait_for(take(shares, stack, ANNA), 5)
