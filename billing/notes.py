"""What people want each other to know of an account. A note is written once, and stays."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.accounts import find_account
from billing.errors import InvalidOperationError
from billing.staff_tables import AccountNote

LENGTH_MAX: Final = 2_000
SHOWN_MAX: Final = 100


async def add_note(db: AsyncSession, account_id: UUID, body: str, *, actor: str) -> AccountNote:
    """Write a note.

    Raises:
        AccountNotFoundError: there is no such account.
        InvalidOperationError: it says nothing, or too much.
    """
    body = body.strip()
    if not 0 < len(body) <= LENGTH_MAX:
        raise InvalidOperationError(f"a note has between 1 and {LENGTH_MAX} characters")
    await find_account(db, account_id)
    note = AccountNote(id=uuid4(), account_id=account_id, actor=actor, body=body)
    db.add(note)
    await db.flush()
    await audit.record(
        db,
        actor=actor,
        action="account.note",
        object_name=f"account {account_id}",
        account_id=account_id,
        after={"note": body},
    )
    return note


async def notes_of(db: AsyncSession, account_id: UUID) -> Sequence[AccountNote]:
    """List an account's notes, newest first."""
    mine = select(AccountNote).where(AccountNote.account_id == account_id)
    return (await db.scalars(mine.order_by(AccountNote.at.desc()).limit(SHOWN_MAX))).all()
