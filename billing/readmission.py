"""A key that was shown before and is not shown again: what a browser's session stands on.

Only its row is known then, not its text. Whatever ends the key ends what was opened with it.
"""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import UnknownKeyError
from billing.keys import KeyFacts, KeyHasher, check_key, facts_from, look_up_key
from billing.tables import ApiKey


async def readmit(
    db: AsyncSession, hasher: KeyHasher, api_key_id: UUID, *, address: str
) -> KeyFacts:
    """Tell what the key may do now, from `address`; it does not count as a use of the key.

    Raises:
        UnknownKeyError: there is no such key, or its pepper was taken out of use.
        KeyRevokedError: revoked, expired, or rotated longer ago than its grace.
        KeyAddressError: it is not to be used from there.
    """
    row = await look_up_key(db, ApiKey.id == api_key_id)
    if row is None or hasher.hash("", row.ApiKey.pepper_version) is None:
        raise UnknownKeyError
    check_key(row, address)
    return facts_from(row)
