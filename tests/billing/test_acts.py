"""An act is done once and tried out beforehand; and the acts that other pages do not test."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import acts
from billing import credits as books
from billing.accounts import close_account, create_account
from billing.db import SessionFactory, transact
from billing.errors import AccountNotFoundError, InvalidOperationError
from billing.extensions import extend_grant
from billing.invariants import check_account
from billing.key_limits import KeyLimits, set_key_limits
from billing.keys import KeyHasher, create_key, revoke_key
from billing.ledger import release
from billing.notes import LENGTH_MAX, add_note, notes_of
from billing.staff_tables import AuditEvent
from billing.tables import CreditGrant, LedgerTxn
from tests.billing.conftest import JANUARY_31, Opens, held, open_grants_of

DAY = timedelta(days=1)
NO_LIMITS = KeyLimits(None, None, None, None, None)


async def grant_id_of(db: AsyncSession, account_id: UUID, source: str = "plan") -> UUID:
    mine = select(CreditGrant.id).where(
        CreditGrant.account_id == account_id,
        CreditGrant.source == source,
        CreditGrant.closed_at.is_(None),
    )
    return (await db.scalars(mine)).one()


async def count_of(db: AsyncSession, kind: type[AuditEvent | LedgerTxn | CreditGrant]) -> int:
    return await db.scalar(select(func.count()).select_from(kind)) or 0


async def test_an_act_is_claimed_once(db: AsyncSession) -> None:
    act_id = uuid4()
    assert await acts.claim(db, act_id, actor="t", action="grant")
    assert not await acts.claim(db, act_id, actor="t", action="grant")


async def test_of_many_that_do_one_act_at_once_one_does_it(
    committed_sessions: SessionFactory,
) -> None:
    act_id = uuid4()
    async with committed_sessions.begin() as db:
        account = await create_account(db, name="Ada", plan="free", actor="t")

    async def work(db: AsyncSession) -> bool:
        if not await acts.claim(db, act_id, actor="t", action="grant"):
            return False
        await books.grant_credits(
            db, account.id, amount=10, source="topup", ref=str(uuid4()), actor="t", reason="r"
        )
        return True

    done = await asyncio.gather(*(transact(committed_sessions, work) for _ in range(8)))

    assert done.count(True) == 1
    async with committed_sessions() as db:
        snapshot = await acts.snapshot_of(db, account.id)
    assert snapshot is not None
    assert snapshot.available == 260


async def test_an_act_that_is_taken_back_may_be_done_again(
    committed_sessions: SessionFactory,
) -> None:
    act_id = uuid4()
    async with committed_sessions() as db:
        assert await acts.claim(db, act_id, actor="t", action="grant")
        await db.rollback()
    async with committed_sessions.begin() as db:
        assert await acts.claim(db, act_id, actor="t", action="grant")


async def test_a_rehearsal_tells_the_effect_and_leaves_no_trace(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    kinds = (AuditEvent, LedgerTxn, CreditGrant)
    before = [await count_of(db, kind) for kind in kinds]

    effect = await acts.rehearse(
        db,
        account_id,
        lambda db: close_account(db, account_id, actor="t", reason="r", at=JANUARY_31 + DAY),
    )

    assert effect.before is not None
    assert effect.after is not None
    assert (effect.before.status, effect.after.status) == ("active", "closed")
    assert (effect.before.available, effect.after.available) == (250, 0)
    assert [trace.action for trace in effect.traces] == ["account.closed"]
    assert [await count_of(db, kind) for kind in kinds] == before
    assert await acts.snapshot_of(db, account_id) == effect.before
    assert await check_account(db, account_id) == []


async def test_a_rehearsal_of_what_is_refused_is_refused(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()

    with pytest.raises(InvalidOperationError):
        await acts.rehearse(
            db,
            account_id,
            lambda db: books.adjust(
                db, account_id, amount=-251, ref="a", actor="t", reason="r", at=JANUARY_31
            ),
        )

    # The session is as good as new.
    await books.adjust(db, account_id, amount=-250, ref="a", actor="t", reason="r", at=JANUARY_31)


async def test_the_application_may_not_forget_what_was_done(db: AsyncSession) -> None:
    await acts.claim(db, uuid4(), actor="t", action="grant")
    for statement in ("DELETE FROM admin_act", "UPDATE admin_act SET actor = 'x'"):
        savepoint = await db.begin_nested()
        with pytest.raises(ProgrammingError, match="permission denied"):
            await db.execute(text(statement))
        await savepoint.rollback()


async def test_an_extension_moves_what_is_left_and_keeps_every_rule(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, 50, at=JANUARY_31 + DAY)
    grant_id = await grant_id_of(db, account_id)

    await extend_grant(
        db,
        grant_id,
        expires_at=JANUARY_31 + 500 * DAY,
        actor="t",
        reason="r",
        at=JANUARY_31 + 2 * DAY,
    )

    assert await open_grants_of(db, account_id) == [("plan", 0), ("adjustment", 200)]
    await release(db, job_id, reason="r", at=JANUARY_31 + 3 * DAY)
    assert await open_grants_of(db, account_id) == [("plan", 50), ("adjustment", 200)]
    assert await check_account(db, account_id) == []


async def test_what_was_held_while_the_rest_was_extended_can_be_extended_once_it_is_back(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    job_id = await held(db, account_id, 50, at=JANUARY_31 + DAY)
    grant_id = await grant_id_of(db, account_id)

    async def extend(days: int) -> None:
        end, at = JANUARY_31 + 500 * DAY, JANUARY_31 + days * DAY
        await extend_grant(db, grant_id, expires_at=end, actor="t", reason="r", at=at)

    await extend(2)
    await release(db, job_id, reason="r", at=JANUARY_31 + 3 * DAY)
    await extend(4)

    assert await open_grants_of(db, account_id) == [("adjustment", 200), ("adjustment", 50)]
    with pytest.raises(InvalidOperationError, match="nothing is left"):
        await extend(5)
    assert await check_account(db, account_id) == []


async def test_an_extended_grant_has_ended_once_nothing_of_it_is_held(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    grant_id = await grant_id_of(db, account_id)
    at = JANUARY_31 + DAY

    await extend_grant(db, grant_id, expires_at=None, actor="t", reason="r", at=at)

    old = await db.get_one(CreditGrant, grant_id, populate_existing=True)
    assert (old.closed_reason, old.remaining) == ("exhausted", 0)
    with pytest.raises(InvalidOperationError):
        await extend_grant(db, grant_id, expires_at=None, actor="t", reason="r", at=at)
    assert await check_account(db, account_id) == []


@pytest.mark.parametrize("days", [0, -3])
async def test_an_end_is_never_brought_forward(
    db: AsyncSession, open_account: Opens, days: int
) -> None:
    account_id = await open_account()
    grant = await db.get_one(CreditGrant, await grant_id_of(db, account_id))
    assert grant.expires_at is not None

    with pytest.raises(InvalidOperationError, match="later end"):
        await extend_grant(
            db,
            grant.id,
            expires_at=grant.expires_at + days * DAY,
            actor="t",
            reason="r",
            at=JANUARY_31 + DAY,
        )


async def test_nobody_s_grant_is_not_extended(db: AsyncSession) -> None:
    with pytest.raises(InvalidOperationError, match="no such grant"):
        await extend_grant(db, uuid4(), expires_at=None, actor="t", reason="r")


@pytest.mark.parametrize(
    "limits",
    [
        KeyLimits(0, None, None, None, None),
        KeyLimits(None, None, -1, None, None),
        KeyLimits(None, None, None, "fast", None),
        KeyLimits(None, None, None, None, -5),
        NO_LIMITS,
    ],
)
async def test_limits_that_make_no_sense_or_change_nothing_are_refused(
    db: AsyncSession, open_account: Opens, hasher: KeyHasher, limits: KeyLimits
) -> None:
    account_id = await open_account()
    key, _ = await create_key(db, hasher, account_id=account_id, env="live", actor="t")

    with pytest.raises(InvalidOperationError):
        await set_key_limits(db, key.id, limits, actor="t", reason="r")


async def test_a_revoked_key_gets_no_limits(
    db: AsyncSession, open_account: Opens, hasher: KeyHasher
) -> None:
    account_id = await open_account()
    key, _ = await create_key(db, hasher, account_id=account_id, env="live", actor="t")
    await revoke_key(db, key.id, actor="t", reason="r")

    limits = KeyLimits(5, None, None, None, None)
    with pytest.raises(InvalidOperationError):
        await set_key_limits(db, key.id, limits, actor="t", reason="r")


async def test_notes_are_newest_first_and_say_something(
    db: AsyncSession, open_account: Opens
) -> None:
    account_id = await open_account()
    for body in ("first", "  second  "):
        await add_note(db, account_id, body, actor="t")
    assert [note.body for note in await notes_of(db, account_id)] == ["second", "first"]
    for body in ("   ", "x" * (LENGTH_MAX + 1)):
        with pytest.raises(InvalidOperationError):
            await add_note(db, account_id, body, actor="t")
    with pytest.raises(AccountNotFoundError):
        await add_note(db, uuid4(), "to nobody", actor="t")
