"""Each key of an account is listed once: with those that live or with those that have ended."""

from datetime import timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.key_lists import count_keys, ended_keys, keys_among, living_keys
from billing.keys import KeyHasher, create_key, has_ended
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


@pytest.fixture
async def lone(db: AsyncSession, hasher: KeyHasher, open_account: Opens) -> ApiKey:
    account_id = await open_account(plan="starter", at=None)
    key, _ = await create_key(db, hasher, account_id=account_id, env="live", actor="test")
    return key


async def test_a_key_is_listed_as_ended_once_it_opens_nothing(
    db: AsyncSession, keys: list[ApiKey]
) -> None:
    account_id = keys[0].account_id
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    living = await living_keys(db, account_id)
    ended = await ended_keys(db, account_id, rows_max=len(keys))
    assert {line.key.id for line in living} == {key.id for key in keys if not has_ended(key, now)}
    assert {line.key.id for line in ended} == {key.id for key in keys if has_ended(key, now)}
    counts = await count_keys(db, account_id)
    assert (counts.living, counts.ended) == (len(living), len(ended))
    ends = [end for line in ended if (end := line.end)]
    assert ends == sorted(ends, reverse=True)
    newest = max(line.key.created_at for line in living)
    assert living[0].key.created_at == newest, "none being used"


@pytest.mark.parametrize(
    ("ends_h", "state", "end_h"),
    [  # revoked, expires, past its grace
        ((None, None, None), "active", None),
        ((None, 2, None), "active", 2),
        ((None, None, 1), "rotated", 1),
        ((None, 1, 2), "rotated", 1),
        ((None, -1, None), "expired", -1),
        ((None, 1, -1), "expired", -1),
        ((-2, -1, 1), "revoked", -2),
        ((-1, -2, None), "expired", -2),
    ],
)
async def test_a_key_is_listed_with_what_ends_it_first(
    lone: ApiKey, db: AsyncSession, ends_h: tuple[int | None, ...], state: str, end_h: int | None
) -> None:
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    for name, hours in zip(ENDS, ends_h, strict=True):
        setattr(lone, name, None if hours is None else now + timedelta(hours=hours))
    await db.flush()
    living = await living_keys(db, lone.account_id)
    (line,) = [*living, *await ended_keys(db, lone.account_id, rows_max=2)]
    assert line.state == state
    assert line.end == (None if end_h is None else now + timedelta(hours=end_h))


async def test_pages_of_ended_keys_give_each_once(db: AsyncSession, keys: list[ApiKey]) -> None:
    account_id = keys[0].account_id
    whole = await ended_keys(db, account_id, rows_max=len(keys))
    pages = [
        await ended_keys(db, account_id, rows_max=4, rows_passed=passed)
        for passed in range(0, len(whole) + 4, 4)
    ]
    assert [line.key.id for page in pages for line in page] == [line.key.id for line in whole]


async def test_keys_are_called_by_name_to_their_own_account_alone(
    db: AsyncSession, hasher: KeyHasher, open_account: Opens, keys: list[ApiKey]
) -> None:
    other_id: UUID = await open_account(plan="starter", at=None)
    other, _ = await create_key(db, hasher, account_id=other_id, env="live", actor="test")
    asked = [keys[3].id, keys[3].id, other.id, uuid4(), None]
    assert list(await keys_among(db, keys[0].account_id, asked)) == [keys[3].id]
    assert await keys_among(db, keys[0].account_id, []) == {}
