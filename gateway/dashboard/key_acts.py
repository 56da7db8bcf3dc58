"""Acts on API keys: made, rotated, revoked, limited."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import keys
from billing.accounts import find_account
from billing.errors import InvalidOperationError
from billing.key_limits import COUNT_MAX, KeyLimits, set_key_limits
from billing.tables import ApiKey
from gateway.dashboard.act_forms import Act, Deed, Facts, Field, Values
from gateway.web.refusals import FormError, MissingPageError

KEY: Final = Field("key", "Key", "fixed")
NAME: Final = Field("name", "Name", hint="To tell it from others.", is_required=False, longest=80)
QUEUES: Final = (("", "The plan’s"), ("standard", "standard"), ("priority", "priority"))
SCOPES: Final = (
    ("cutout read", "Make cutouts and read (usual)"),
    ("cutout", "Make cutouts"),
    ("read", "Read"),
    ("admin", "All of it, its account’s keys too"),
)
MAY: Final = Field("scopes", "May", "choice", choices=SCOPES)
PLANS_WORD: Final = "Left empty, the plan’s."
LIMITS: Final = (
    *(
        Field(name, label, "number", PLANS_WORD, is_required=False, smallest=1, largest=COUNT_MAX)
        for name, label in (
            ("rate_per_minute", "Calls a minute"),
            ("burst", "Burst"),
            ("concurrency_max", "Jobs at once"),
        )
    ),
    Field("queue_class", "Queue", "choice", is_required=False, choices=QUEUES),
    Field(
        *("budget_credits", "Budget", "number"),
        hint="Credits that it may use in a period. Left empty, all the account has.",
        is_required=False,
        smallest=0,
    ),
)
UNTIL: Final = Field(
    *("until", "Works until the end of", "date"),
    hint="A day, UTC. Left empty, it works until it is revoked.",
    is_required=False,
)
NETWORKS: Final = Field(
    *("ip_allow", "Only from these networks"),
    hint="Such as 203.0.113.0/24, parted by commas. Left empty, from everywhere.",
    is_required=False,
    longest=1000,
)
HOURS: Final = Field(
    *("hours", "The old text works for so many hours more", "number"),
    hint="0 to 168. With 0 it stops within 5 seconds.",
    value="24",
    smallest=0,
)
HOURS_MAX: Final = 168


async def _create(db: AsyncSession, deed: Deed) -> str:
    return await _make(db, deed, env=deed.values["env"], scopes=deed.values["scopes"].split())


async def _create_enterprise(db: AsyncSession, deed: Deed) -> str:
    return await _make(db, deed, env="enterprise", scopes=deed.values["scopes"].split())


async def _make(db: AsyncSession, deed: Deed, *, env: str, scopes: list[str]) -> str:
    account = await find_account(db, deed.account_id)
    if account.status == "closed":
        raise InvalidOperationError("the account is closed: its keys would open nothing")
    if deed.values["until"] is not None and deed.values["until"] <= datetime.now(UTC):
        raise FormError("The day until which the key is to work has passed.")
    _, plaintext = await keys.create_key(
        db,
        deed.tools.hasher,
        account_id=deed.account_id,
        env=env,
        name=deed.values["name"] or "",
        scopes=scopes,
        ip_allow=_networks(deed.values["ip_allow"] or ""),
        expires_at=deed.values["until"],
        api_key_id=deed.act_id,
        actor=deed.actor,
        reason=deed.reason,
        **_limits(deed.values),
    )
    return plaintext


def _networks(said: str) -> list[str] | None:
    """Read the networks that a key may be used from; None is everywhere."""
    networks = said.replace(",", " ").split()
    try:
        return [str(ip_network(network, strict=False)) for network in networks] or None
    except ValueError:
        raise FormError("A network is written 203.0.113.0/24 or 2001:db8::/32.") from None


async def _rotate(db: AsyncSession, deed: Deed) -> str:
    key = await _own_key(db, deed.account_id, deed.values)
    if deed.values["hours"] > HOURS_MAX:
        raise FormError(f"At most {HOURS_MAX} hours.")
    _, plaintext = await keys.rotate_key(
        db,
        deed.tools.hasher,
        key.id,
        grace=timedelta(hours=deed.values["hours"]),
        actor=deed.actor,
        reason=deed.reason,
    )
    return plaintext


async def _revoke(db: AsyncSession, deed: Deed) -> None:
    key = await _own_key(db, deed.account_id, deed.values)
    await keys.revoke_key(db, key.id, actor=deed.actor, reason=deed.reason)


async def _set_limits(db: AsyncSession, deed: Deed) -> None:
    key = await _own_key(db, deed.account_id, deed.values)
    limits = KeyLimits(**_limits(deed.values))
    await set_key_limits(db, key.id, limits, actor=deed.actor, reason=deed.reason)


def _limits(values: Values) -> dict[str, Any]:
    return {field.name: values.get(field.name) for field in LIMITS}


async def _own_key(db: AsyncSession, account_id: UUID, values: Values) -> ApiKey:
    key: ApiKey | None = await db.scalar(
        select(ApiKey).where(ApiKey.id == values["key"], ApiKey.account_id == account_id)
    )
    if key is None:
        raise MissingPageError
    return key


async def _describe_key(db: AsyncSession, account_id: UUID, values: Values) -> Facts:
    key = await _own_key(db, account_id, values)
    return (
        ("Key", f"{keys.PREFIXES[key.env]}{key.key_id}…{key.last4}"),
        ("Name", key.name or "none"),
        ("Last used", key.last_used_at or "never"),
    )


KEY_ACTS: Final[Sequence[Act]] = (
    Act(
        "create-key",
        "Create a key",
        "owner",
        _create,
        "The key was made.",
        (
            Field(
                *("env", "Kind", "choice"),
                choices=(("live", "live"), ("test", "test: watermarked, free")),
            ),
            NAME,
            MAY,
            UNTIL,
            NETWORKS,
            *LIMITS,
        ),
    ),
    Act(
        "create-enterprise-key",
        "Create an enterprise key",
        "owner",
        _create_enterprise,
        "The enterprise key was made.",
        (NAME, MAY, UNTIL, NETWORKS, *LIMITS),
        explains="A dedicated key with limits of its own; its jobs go before the standard queue.",
    ),
    Act(
        "rotate-key",
        "Rotate a key",
        "support",
        _rotate,
        "The key was rotated.",
        (KEY, HOURS),
        explains="A new key takes its place, with the same rights, limits and budget.",
        describe=_describe_key,
    ),
    Act(
        "revoke-key",
        "Revoke a key",
        "support",
        _revoke,
        "The key is revoked.",
        (KEY,),
        explains="It stops everywhere within 5 seconds, for ever.",
        is_danger=True,
        describe=_describe_key,
    ),
    Act(
        "limit-key",
        "Set a key’s limits",
        "owner",
        _set_limits,
        "The limits were set.",
        (KEY, *LIMITS),
        explains="In force everywhere within 5 seconds.",
        describe=_describe_key,
    ),
)
