"""The dashboard's door, open at the beginning of each of its tests."""

import pytest
from sqlalchemy import delete

from billing.db import SessionFactory
from billing.staff_tables import SignInAttempt


@pytest.fixture(autouse=True)
async def open_door(committed_sessions: SessionFactory) -> None:
    """Forget who failed to sign in: all tests come from one address, and too many shut it out."""
    async with committed_sessions.begin() as db:
        await db.execute(delete(SignInAttempt))
