"""Keys that ended long ago, by the thousand, as a script leaves them that renews its key hourly."""

from uuid import UUID

from sqlalchemy import text

from gateway.app import House

# The n-th ended n hours ago; in turns it was revoked, had expired, was past its grace.
WRITE = text(
    """
    INSERT INTO api_key (id, account_id, key_id, env, name, key_hash, pepper_version, last4, scopes,
        created_at, last_used_at, revoked_at, expires_at, grace_until)
    SELECT gen_random_uuid(), :account_id, substr(md5(random()::text), 1, 8), 'live', 'old ' || n,
        decode(md5(n::text), 'hex'), 1, 'abcd', ARRAY['cutout', 'read'],
        made_at, ended_at,
        CASE n % 3 WHEN 0 THEN ended_at END,
        CASE n % 3 WHEN 1 THEN ended_at END,
        CASE n % 3 WHEN 2 THEN ended_at END
    FROM generate_series(1, :count) n,
        LATERAL (SELECT now() - n * interval '1 hour', now() - (n + 1) * interval '1 hour')
            AS times (ended_at, made_at)
    """
)


async def write_old_keys(house: House, account_id: UUID, *, count: int) -> None:
    """Write keys named `old 1` (the last that ended) to `old <count>`."""
    async with house.sessions.begin() as db:
        await db.execute(WRITE, {"account_id": account_id, "count": count})
