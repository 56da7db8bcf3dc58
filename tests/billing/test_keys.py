"""A key opens its own account, from where and until when it should, and nothing else."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, keys, ledger
from billing.errors import (
    InvalidOperationError,
    KeyAddressError,
    KeyBudgetError,
    KeyRevokedError,
    KeyScopeError,
    UnknownKeyError,
)
from billing.keys import KeyHasher
from billing.tables import ApiKey
from tests.billing.conftest import JANUARY_31, Opens, held

AT = JANUARY_31


@pytest.fixture
async def account_id(open_account: Opens) -> UUID:
    return await open_account(plan="starter", at=None)


@pytest.mark.parametrize(
    ("env", "prefix"), [("live", "cg_live_"), ("test", "cg_test_"), ("enterprise", "cg_ent_")]
)
async def test_a_key_says_what_it_is_and_opens_its_account(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID, env: str, prefix: str
) -> None:
    key, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env=env, name="shop", actor="test"
    )
    assert plaintext.startswith(prefix + key.key_id)
    assert len(plaintext) == len(prefix) + 8 + 32 + 6
    facts = await keys.authenticate(db, hasher, plaintext)
    assert (facts.account_id, facts.api_key_id, facts.env) == (account_id, key.id, env)
    assert (facts.plan, facts.rate_per_minute, facts.burst) == ("starter", 300, 60)
    assert facts.scopes == {"cutout", "read"}
    assert facts.queue_class == ("priority" if env == "enterprise" else "standard")


async def test_the_database_never_sees_the_key(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    key, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test"
    )
    kept = " ".join(str(getattr(key, column.key)) for column in ApiKey.__table__.columns)
    assert plaintext[16:48] not in kept
    assert key.last4 == plaintext[-4:]


@given(position=st.integers(0, 53), letter=st.sampled_from(keys.BASE62))
def test_a_mistyped_key_is_refused_before_any_look_up(position: int, letter: str) -> None:
    body = "cg_live_" + "abcdefgh" + "x" * 32
    plaintext = body + keys.checksum_of(body)
    assert keys.key_id_from(plaintext) == "abcdefgh"
    typo = plaintext[:position] + letter + plaintext[position + 1 :]
    if typo != plaintext:
        with pytest.raises(UnknownKeyError):
            keys.key_id_from(typo)


@pytest.mark.parametrize("text", ["", "cg_live_", "Bearer x", "cg_live_" + "é" * 46, "x" * 10_000])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UnknownKeyError):
        keys.key_id_from(text)


async def test_a_guessed_secret_with_a_good_checksum_opens_nothing(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    key, _ = await keys.create_key(db, hasher, account_id=account_id, env="live", actor="test")
    guess = "cg_live_" + key.key_id + "a" * 32
    with pytest.raises(UnknownKeyError):
        await keys.authenticate(db, hasher, guess + keys.checksum_of(guess))
    stranger = "cg_live_" + "zzzzzzzz" + "a" * 32
    with pytest.raises(UnknownKeyError):
        await keys.authenticate(db, hasher, stranger + keys.checksum_of(stranger))


async def test_old_keys_work_while_their_pepper_is_known(
    db: AsyncSession, account_id: UUID
) -> None:
    first = KeyHasher({1: "one"})
    _, plaintext = await keys.create_key(db, first, account_id=account_id, env="live", actor="x")
    await keys.authenticate(db, KeyHasher({1: "one", 2: "two"}), plaintext)
    for other in ({2: "two"}, {1: "changed"}):
        with pytest.raises(UnknownKeyError):
            await keys.authenticate(db, KeyHasher(other), plaintext)


async def test_a_revoked_key_is_refused_at_once_and_for_ever(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    key, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test"
    )
    await keys.revoke_key(db, key.id, actor="test", reason="leaked")
    with pytest.raises(KeyRevokedError):
        await keys.authenticate(db, hasher, plaintext)
    with pytest.raises(InvalidOperationError):
        await keys.revoke_key(db, key.id, actor="test", reason="again")
    with pytest.raises(InvalidOperationError):
        await keys.rotate_key(db, hasher, key.id, actor="test")


async def test_a_key_ends_when_it_expires(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    now = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    for expires_at, is_good in ((now + timedelta(hours=1), True), (now, False)):
        _, plaintext = await keys.create_key(
            db, hasher, account_id=account_id, env="live", expires_at=expires_at, actor="test"
        )
        if is_good:
            await keys.authenticate(db, hasher, plaintext)
        else:
            with pytest.raises(KeyRevokedError):
                await keys.authenticate(db, hasher, plaintext)


async def test_a_rotated_key_works_beside_the_new_one_for_its_grace(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    old, old_text = await keys.create_key(
        db, hasher, account_id=account_id, env="live", rate_per_minute=7, actor="test"
    )
    new, new_text = await keys.rotate_key(db, hasher, old.id, actor="test")
    assert new.rotated_from == old.id
    for text in (old_text, new_text):
        assert (await keys.authenticate(db, hasher, text)).rate_per_minute == 7
    with pytest.raises(InvalidOperationError):
        await keys.rotate_key(db, hasher, old.id, actor="test")
    last, last_text = await keys.rotate_key(db, hasher, new.id, grace=timedelta(0), actor="test")
    assert last.key_id in last_text
    with pytest.raises(KeyRevokedError):
        await keys.authenticate(db, hasher, new_text)
    with pytest.raises(InvalidOperationError):
        await keys.rotate_key(db, hasher, last.id, grace=timedelta(days=8), actor="test")


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),
        ("2001:db8:0:7::1", True),
        ("203.0.114.1", False),
        ("2001:db8:1::1", False),
        ("no address", False),
        (None, False),
    ],
)
async def test_a_key_may_be_bound_to_networks(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID, address: str | None, *, is_allowed: bool
) -> None:
    _, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test",
        ip_allow=["203.0.113.0/24", "2001:db8:0:7::/64"],
    )  # fmt: skip
    if is_allowed:
        await keys.authenticate(db, hasher, plaintext, address=address)
    else:
        with pytest.raises(KeyAddressError):
            await keys.authenticate(db, hasher, plaintext, address=address)


async def test_a_key_does_what_its_scopes_say(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    _, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", scopes=["read"], actor="test"
    )
    facts = await keys.authenticate(db, hasher, plaintext)
    facts.require("read")
    with pytest.raises(KeyScopeError):
        facts.require("cutout")
    nonsenses: tuple[dict[str, Any], ...] = (
        {"scopes": ["fly"]},
        {"scopes": []},
        {"ip_allow": ["everywhere"]},
    )
    for nonsense in nonsenses:
        with pytest.raises(InvalidOperationError):
            await keys.create_key(
                db, hasher, account_id=account_id, env="live", actor="test", **nonsense
            )


async def test_a_keys_own_limits_go_before_its_plans(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    _, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test", rate_per_minute=9, burst=3,
        concurrency_max=2, queue_class="priority",
    )  # fmt: skip
    facts = await keys.authenticate(db, hasher, plaintext)
    assert (facts.rate_per_minute, facts.burst, facts.concurrency_max, facts.queue_class) == (
        9, 3, 2, "priority",
    )  # fmt: skip


async def test_the_time_of_the_last_use_is_kept_coarsely(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    key, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test"
    )
    seen = []
    for _ in range(2):
        await keys.authenticate(db, hasher, plaintext)
        seen.append(await db.scalar(select(ApiKey.last_used_at).where(ApiKey.id == key.id)))
    assert seen[0] is not None
    assert seen[0] == seen[1]


async def test_a_suspended_accounts_key_still_says_who_it_is(
    db: AsyncSession, hasher: KeyHasher, account_id: UUID
) -> None:
    _, plaintext = await keys.create_key(
        db, hasher, account_id=account_id, env="live", actor="test"
    )
    await accounts.suspend_account(db, account_id, actor="test", reason="unpaid")
    assert (await keys.authenticate(db, hasher, plaintext)).account_status == "suspended"
    await accounts.close_account(db, account_id, actor="test", reason="gone")
    with pytest.raises(KeyRevokedError):
        await keys.authenticate(db, hasher, plaintext)


async def test_a_keys_budget_bounds_what_it_spends_in_a_period(
    db: AsyncSession, hasher: KeyHasher, open_account: Opens
) -> None:
    account_id = await open_account(plan="starter")
    key, _ = await keys.create_key(
        db, hasher, account_id=account_id, env="live", budget_credits=60, actor="test"
    )
    first, second = [await held(db, account_id, api_key_id=key.id, at=AT) for _ in range(2)]
    with pytest.raises(KeyBudgetError) as refused:
        await held(db, account_id, api_key_id=key.id, at=AT)
    assert (refused.value.needed, refused.value.available) == (25, 10)
    await ledger.capture(db, first, at=AT)
    await ledger.release(db, second, reason="failed", at=AT)  # a failure costs no budget either
    await held(db, account_id, api_key_id=key.id, at=AT)
    with pytest.raises(KeyBudgetError):
        await held(db, account_id, api_key_id=key.id, at=AT)
    await held(db, account_id, at=AT)  # other keys are not bound by it
    await held(db, account_id, api_key_id=key.id, at=AT.replace(month=2, day=28))


async def test_a_rotated_key_spends_what_its_budget_has_left(
    db: AsyncSession, hasher: KeyHasher, open_account: Opens
) -> None:
    account_id = await open_account(plan="starter")
    first, _ = await keys.create_key(
        db, hasher, account_id=account_id, env="live", budget_credits=60, actor="test"
    )
    job_id = await held(db, account_id, api_key_id=first.id, at=AT)
    second, _ = await keys.rotate_key(db, hasher, first.id, actor="test")
    third, _ = await keys.rotate_key(db, hasher, second.id, actor="test")
    await held(db, account_id, api_key_id=third.id, at=AT)
    for key in (first, second, third):
        with pytest.raises(KeyBudgetError) as refused:
            await held(db, account_id, api_key_id=key.id, at=AT)
        assert refused.value.available == 10
    await ledger.release(db, job_id, reason="failed", at=AT)
    await held(db, account_id, api_key_id=third.id, at=AT)


async def test_no_key_is_made_up(db: AsyncSession) -> None:
    with pytest.raises(InvalidOperationError):
        await keys.revoke_key(db, uuid4(), actor="test", reason="x")
    with pytest.raises(ValueError, match="pepper"):
        KeyHasher({})
