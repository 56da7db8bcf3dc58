"""Each key of an account is listed once: with those that live or with those that have ended."""

from datetime import timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.key_lists import count_keys, ended_keys, keys_among, living_keys
from billing.keys import KeyHasher, create_key, end_of, has_ended
from billing.tables import ApiKey
from tests.billing.conftest import Opens

ENDS = ("revoked_at", "expires_at", "grace_until")


@pytest.fixture
async def keys(db: AsyncSession, hasher: KeyHasher, open_account: Opens) -> list[ApiKey]:
    """Keys of one account with every mix of no end, a past one and one to come."""
    account_id = await open_account(plan="starter", at=None)
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    times = (None, now - timedelta(hours=1), now + timedelta(hours=1))
    made = []
    for n, ends in enumerate(product(times, repeat=len(ENDS))):
        key, _ = await create_key(db, hasher, account_id=account_id, env="live", actor="test")
        for name, at in zip(ENDS, ends, strict=True):
            setattr(key, name, at and at + timedelta(seconds=n))
        made.append(key)
    await db.flush()
    return made


async def test_a_key_is_listed_as_ended_once_it_opens_nothing(
    db: AsyncSession, keys: list[ApiKey]
) -> None:
    account_id = keys[0].account_id
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    living = await living_keys(db, account_id)
    ended = await ended_keys(db, account_id, rows_max=len(keys))
    assert {key.id for key in living} == {key.id for key in keys if not has_ended(key, now)}
    assert {key.id for key in ended} == {key.id for key in keys if has_ended(key, now)}
    counts = await count_keys(db, account_id)
    assert (counts.living, counts.ended) == (len(living), len(ended))
    ends = [end for key in ended if (end := end_of(key))]
    assert ends == sorted(ends, reverse=True)
    assert living[0] == max(living, key=lambda key: key.created_at), "the newest, none being used"


async def test_pages_of_ended_keys_give_each_once(db: AsyncSession, keys: list[ApiKey]) -> None:
    account_id = keys[0].account_id
    whole = await ended_keys(db, account_id, rows_max=len(keys))
    pages = [
        await ended_keys(db, account_id, rows_max=4, rows_passed=passed)
        for passed in range(0, len(whole) + 4, 4)
    ]
    assert [key.id for page in pages for key in page] == [key.id for key in whole]


async def test_keys_are_called_by_name_to_their_own_account_alone(
    db: AsyncSession, hasher: KeyHasher, open_account: Opens, keys: list[ApiKey]
) -> None:
    other_id: UUID = await open_account(plan="starter", at=None)
    other, _ = await create_key(db, hasher, account_id=other_id, env="live", actor="test")
    asked = [keys[3].id, keys[3].id, other.id, uuid4(), None]
    assert list(await keys_among(db, keys[0].account_id, asked)) == [keys[3].id]
    assert await keys_among(db, keys[0].account_id, []) == {}
