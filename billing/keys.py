"""API keys: made, checked, rotated, revoked.

A key reads `cg_live_` (or `cg_test_`, `cg_ent_`), 8 characters that name it, 32 that are secret,
6 that are a checksum. A mistyped key is refused by arithmetic, before any look-up; the look-up is
by the name; the secret is compared, in constant time, as HMAC-SHA256 under a pepper that the
database does not know. The text is shown once, when it is made.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.errors import (
    InvalidOperationError,
    KeyAddressError,
    KeyRevokedError,
    KeyScopeError,
    UnknownKeyError,
)
from billing.tables import Account, ApiKey, PlanVersion, Subscription

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIXES: Final = {"live": "cg_live_", "test": "cg_test_", "enterprise": "cg_ent_"}
ID_LENGTH: Final = 8
SECRET_LENGTH: Final = 32
CHECKSUM_LENGTH: Final = 6
SCOPES: Final = frozenset({"cutout", "read", "admin"})
DEFAULT_SCOPES: Final = frozenset({"cutout", "read"})
GRACE_DEFAULT: Final = timedelta(hours=24)
GRACE_MAX: Final = timedelta(days=7)

COPIED_BY_ROTATION: Final = (
    *("account_id", "env", "name", "scopes", "ip_allow", "expires_at", "budget_credits"),
    *("rate_per_minute", "burst", "concurrency_max", "queue_class"),
)

SHAPE: Final = re.compile(
    rf"(cg_(?:live|test|ent)_)([0-9A-Za-z]{{{ID_LENGTH}}})"
    rf"([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)
"""What a secret scanner may look for; docs/billing.md prints it."""

# Coarse, and never waits: callers of one key must not queue for a row that says who was last.
TOUCH: Final = text(
    "UPDATE api_key SET last_used_at = clock_timestamp() WHERE id ="
    " (SELECT id FROM api_key WHERE id = :id FOR NO KEY UPDATE SKIP LOCKED)"
)
TOUCH_AFTER: Final = timedelta(minutes=1)


class KeyHasher:
    """Hashes keys under versioned peppers; the newest is used for new keys."""

    def __init__(self, peppers: Mapping[int, str]) -> None:
        if not peppers or not all(peppers.values()):
            raise ValueError("at least one pepper is needed, and none may be empty")
        self._peppers = dict(peppers)
        self.version = max(peppers)

    def hash(self, plaintext: str, version: int) -> bytes | None:
        """Hash under one version; None where that pepper was taken out of use."""
        pepper = self._peppers.get(version)
        if pepper is None:
            return None
        return hmac.digest(pepper.encode(), plaintext.encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """All that a request needs to know of the key it came with: one look-up."""

    api_key_id: UUID
    account_id: UUID
    account_status: str
    env: str
    scopes: frozenset[str]
    plan: str
    rate_per_minute: int
    burst: int
    concurrency_max: int
    queue_class: str
    result_ttl: timedelta
    expires_at: datetime | None
    has_budget: bool = False

    def require(self, scope: str) -> None:
        """Raise KeyScopeError unless the key has `scope`; `admin` has them all."""
        if not self.scopes & {scope, "admin"}:
            raise KeyScopeError(scope)


def checksum_of(body: str) -> str:
    """CRC32 in base62: it tells a typo, it is no secret."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits


def key_id_from(plaintext: str) -> str:
    """Read a key's name out of its text, if the text can be a key at all.

    Raises:
        UnknownKeyError: the shape or the checksum is wrong.
    """
    shape = SHAPE.fullmatch(plaintext)
    if shape is None or checksum_of(plaintext[:-CHECKSUM_LENGTH]) != shape[4]:
        raise UnknownKeyError
    return shape[2]


async def create_key(
    db: AsyncSession,
    hasher: KeyHasher,
    *,
    account_id: UUID,
    env: str,
    name: str = "",
    scopes: Iterable[str] = DEFAULT_SCOPES,
    rate_per_minute: int | None = None,
    burst: int | None = None,
    concurrency_max: int | None = None,
    queue_class: str | None = None,
    ip_allow: Iterable[str] | None = None,
    budget_credits: int | None = None,
    expires_at: datetime | None = None,
    api_key_id: UUID | None = None,
    actor: str,
    reason: str = "",
) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which is kept nowhere.

    Limits that are None are those of the account's plan.
    """
    if env not in PREFIXES or not set(scopes) or not set(scopes) <= SCOPES:
        raise InvalidOperationError("env or scopes are not among those there are")
    key = ApiKey(
        id=api_key_id or uuid4(),
        account_id=account_id,
        env=env,
        name=name,
        scopes=sorted(set(scopes)),
        rate_per_minute=rate_per_minute,
        burst=burst,
        concurrency_max=concurrency_max,
        queue_class=queue_class,
        ip_allow=_networks(ip_allow),
        budget_credits=budget_credits,
        expires_at=expires_at,
    )
    plaintext = _write_secret(key, hasher)
    db.add(key)
    await db.flush()
    await _audit(db, key, "key.create", actor=actor, reason=reason, after=_told(key))
    return key, plaintext


def _told(key: ApiKey) -> dict[str, Any]:
    """Say what was decided of a key."""
    said = {column: getattr(key, column) for column in COPIED_BY_ROTATION if column != "account_id"}
    if key.expires_at is not None:
        said["expires_at"] = key.expires_at.isoformat()
    return {column: value for column, value in said.items() if value is not None}


def _networks(ip_allow: Iterable[str] | None) -> list[str] | None:
    if ip_allow is None:
        return None
    try:
        return [str(ip_network(network, strict=False)) for network in ip_allow]
    except ValueError as exc:
        raise InvalidOperationError("ip_allow holds something that is no network") from exc


def _write_secret(key: ApiKey, hasher: KeyHasher) -> str:
    """Draw the key's text, and write into its row what may be kept of it."""
    key.key_id = _draw(ID_LENGTH)
    body = PREFIXES[key.env] + key.key_id + _draw(SECRET_LENGTH)
    plaintext = body + checksum_of(body)
    digest = hasher.hash(plaintext, hasher.version)
    if digest is None:
        raise RuntimeError("the newest pepper is missing")
    key.key_hash, key.pepper_version, key.last4 = digest, hasher.version, plaintext[-4:]
    return plaintext


def _draw(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))


async def authenticate(
    db: AsyncSession, hasher: KeyHasher, plaintext: str, *, address: str | None = None
) -> KeyFacts:
    """Tell whose key this is and what it may do.

    A suspended account's key authenticates: what is its own it may still read.

    Raises:
        UnknownKeyError: malformed, or nobody's.
        KeyRevokedError: revoked, expired, or rotated longer ago than its grace.
        KeyAddressError: it is not to be used from `address`.
    """
    row = await look_up_key(db, ApiKey.key_id == key_id_from(plaintext))
    if row is None:
        raise UnknownKeyError
    key: ApiKey = row.ApiKey
    digest = hasher.hash(plaintext, key.pepper_version)
    if digest is None or not hmac.compare_digest(digest, key.key_hash):
        raise UnknownKeyError
    check_key(row, address)
    if key.last_used_at is None or key.last_used_at < row.now - TOUCH_AFTER:
        await db.execute(TOUCH, {"id": key.id})
    return facts_from(row)


async def look_up_key(db: AsyncSession, is_it: ColumnElement[bool]) -> Row[Any] | None:
    """Find a key with all that decides over it."""
    found = await db.execute(
        select(ApiKey, Account.status, PlanVersion, func.clock_timestamp().label("now"))
        .join(Account, Account.id == ApiKey.account_id)
        .outerjoin(
            Subscription,
            (Subscription.account_id == Account.id) & Subscription.ended_at.is_(None),
        )
        .outerjoin(PlanVersion, PlanVersion.id == Subscription.plan_version_id)
        .where(is_it)
        .execution_options(populate_existing=True)
    )
    return found.one_or_none()


def check_key(row: Row[Any], address: str | None) -> None:
    """Refuse a key that has ended, or is not to be used from `address`."""
    key: ApiKey = row.ApiKey
    if row.PlanVersion is None or has_ended(key, row.now):
        raise KeyRevokedError
    if key.ip_allow is not None and not _is_allowed(address, key.ip_allow):
        raise KeyAddressError


def end_of(key: ApiKey) -> datetime | None:
    """Tell when a key ends or ended; None where nobody has said so."""
    ends = [end for end in (key.revoked_at, key.expires_at, key.grace_until) if end is not None]
    return min(ends, default=None)


def has_ended(key: ApiKey, now: datetime) -> bool:
    end = end_of(key)
    return end is not None and end <= now


def _is_allowed(address: str | None, networks: Iterable[str]) -> bool:
    if address is None:
        return False
    try:
        client = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(client, "ipv4_mapped", None)
    return any((mapped or client) in ip_network(network) for network in networks)


def facts_from(row: Row[Any]) -> KeyFacts:
    key: ApiKey = row.ApiKey
    plan: PlanVersion = row.PlanVersion
    queue_class = "priority" if key.env == "enterprise" else plan.queue_class
    return KeyFacts(
        api_key_id=key.id,
        account_id=key.account_id,
        account_status=row.status,
        env=key.env,
        scopes=frozenset(key.scopes),
        plan=plan.plan,
        rate_per_minute=key.rate_per_minute or plan.rate_per_minute,
        burst=key.burst or plan.burst,
        concurrency_max=key.concurrency_max or plan.concurrency_max,
        queue_class=key.queue_class or queue_class,
        result_ttl=plan.result_ttl,
        expires_at=key.expires_at,
        has_budget=key.budget_credits is not None,
    )


async def rotate_key(
    db: AsyncSession,
    hasher: KeyHasher,
    api_key_id: UUID,
    *,
    grace: timedelta = GRACE_DEFAULT,
    actor: str,
    reason: str = "",
) -> tuple[ApiKey, str]:
    """Make a key that takes this one's place; the old text works for `grace` more.

    Both spend one budget: rotation gives no credits of a period again.

    Raises:
        InvalidOperationError: the key is revoked or rotated already, or the grace is too long.
    """
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise InvalidOperationError(f"a grace is between nothing and {GRACE_MAX.days} days")
    old = await _lock_key(db, api_key_id)
    if old.revoked_at is not None or old.grace_until is not None:
        raise InvalidOperationError("the key is revoked or rotated already")
    new = ApiKey(
        id=uuid4(),
        rotated_from=old.id,
        root_id=old.root_id or old.id,
        **{column: getattr(old, column) for column in COPIED_BY_ROTATION},
    )
    plaintext = _write_secret(new, hasher)
    db.add(new)
    old.grace_until = (await db.execute(select(func.clock_timestamp() + grace))).scalar_one()
    await db.flush()
    after = {"rotated_to": str(new.id)}
    await _audit(db, old, "key.rotate", actor=actor, reason=reason, after=after)
    return new, plaintext


async def revoke_key(db: AsyncSession, api_key_id: UUID, *, actor: str, reason: str) -> None:
    """End a key, now. Gateways that know it forget it within seconds.

    Raises:
        InvalidOperationError: it is revoked already, or there is none.
    """
    key = await _lock_key(db, api_key_id)
    if key.revoked_at is not None:
        raise InvalidOperationError("the key is revoked already")
    key.revoked_at = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    await db.flush()
    await _audit(db, key, "key.revoke", actor=actor, reason=reason)


async def _lock_key(db: AsyncSession, api_key_id: UUID) -> ApiKey:
    key = await db.scalar(
        select(ApiKey)
        .where(ApiKey.id == api_key_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if key is None:
        raise InvalidOperationError("there is no such key")
    return key


async def _audit(
    db: AsyncSession,
    key: ApiKey,
    action: str,
    *,
    actor: str,
    reason: str = "",
    after: dict[str, Any] | None = None,
) -> None:
    await audit.record(
        db,
        actor=actor,
        action=action,
        object_name=f"key {key.key_id}",
        account_id=key.account_id,
        reason=reason,
        after=after,
    )
