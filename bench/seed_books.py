"""The books of one account in memory: the ledger's rules in plain Python, fast, for a seed.

What `billing` does with a database is done here with lists, as far as a seed needs it: grants,
holds, captures, releases, refunds, expiries, period closes with rollover, plan changes. No credit
limit is drawn on. That it is the same is not believed but asked: `seed_billing.py` lets every
invariant look at what came of it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from billing import anchors
from billing.burndown import NEVER
from billing.grants import PRIORITIES
from billing.plans import DEFAULT_PLANS, ROLLOVER_PERIODS

CLOCK: Final = "clock"
GATEWAY: Final = "gateway"
ROLLABLE: Final = frozenset({"plan", "rollover"})
MICROSECONDS: Final = 1_000_000

Line = tuple[str, "Grant", int]
"""Bucket, grant and amount of an entry."""


class Why(NamedTuple):
    """Under which reference something was done, by whom and what for."""

    ref: str
    actor: str = CLOCK
    reason: str = ""


@dataclass(slots=True)
class Grant:
    """A grant as its row will be; `order` is the order of writing within the account."""

    id: UUID
    source: str
    amount: int
    why: Why
    effective_at: datetime
    expires_at: datetime | None
    order: int
    parent: "Grant | None" = None
    generation: int = 0
    period_start: datetime | None = None
    remaining: int = 0
    held: int = 0
    closed_at: datetime | None = None
    closed_reason: str | None = None

    @property
    def burn_down_key(self) -> tuple[int, datetime, datetime, int]:
        return PRIORITIES[self.source], self.expires_at or NEVER, self.effective_at, self.order


@dataclass(slots=True)
class Txn:
    """A transaction and its entries; `reverses` is the one that it undoes."""

    account_id: UUID
    seq: int
    op: str
    why: Why
    at: datetime
    lines: Sequence[Line]
    balances: list[int]
    reverses: "Txn | None" = None
    id: int = 0


@dataclass(slots=True)
class Hold:
    """A job's hold with its slices."""

    job_id: UUID
    api_key_id: UUID
    amount: int
    placed_at: datetime
    slices: list[tuple[Grant, int]]
    state: str = "held"
    settled_at: datetime | None = None
    txn: Txn | None = None


@dataclass(slots=True)
class Period:
    """A billing period as its row will be."""

    start: datetime
    end: datetime
    plan: str
    rolled_in: int
    rollover_cap: int
    consumed_before: int
    closed_at: datetime | None = None


@dataclass(slots=True)
class Books:
    """One account from its opening on; operations must come in the order of their times."""

    account_id: UUID
    plan: str
    opened_at: datetime
    rng: Random
    next_plan: str | None = None
    balances: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("issued", "available", "held", "consumed", "expired"), 0
        )
    )
    grants: list[Grant] = field(default_factory=list)
    closed_grants: list[Grant] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    txns: list[Txn] = field(default_factory=list)
    is_closed: bool = False
    order: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self._begin_period(self.opened_at)

    @property
    def now(self) -> datetime:
        return self.txns[-1].at if self.txns else self.opened_at

    @property
    def next_due_at(self) -> datetime | None:
        ends = [grant.expires_at for grant in self.grants if grant.expires_at is not None]
        if not self.is_closed:
            ends.append(self.periods[-1].end)
        return min(ends, default=None)

    def advance(self, to: datetime) -> None:
        """Do what the clock alone does until `to`."""
        while (due_at := self.next_due_at) is not None and due_at <= to:
            for grant in [grant for grant in self.grants if grant.expires_at == due_at]:
                if grant.remaining:
                    lines = _move("available", "expired", grant, grant.remaining)
                    self._post("expire", Why(str(grant.id), CLOCK, "unused"), due_at, lines)
                self._close(grant, due_at, "expired")
            if not self.is_closed and self.periods[-1].end == due_at:
                self._close_period(due_at)

    def give(
        self, source: str, amount: int, at: datetime, why: Why, *, expires_at: datetime | None
    ) -> None:
        """Grant a top-up, a promotion or an adjustment upwards."""
        is_adjustment = source == "adjustment"
        why = why if is_adjustment else why._replace(ref=f"{source}:{why.ref}")
        grant = self._draft(source, amount, at, expires_at, why)
        lines = _move("issued", "available", grant, amount)
        self._post("adjust" if is_adjustment else "grant", why, at, lines)

    def hold(self, job_id: UUID, api_key_id: UUID, amount: int, at: datetime) -> Hold | None:
        """Set credits aside; None where there are too few."""
        if self.balances["available"] < amount:
            return None
        hold = Hold(job_id, api_key_id, amount, at, [])
        wanted = amount
        for grant in sorted(self.grants, key=lambda grant: grant.burn_down_key):
            if wanted and (part := min(wanted, grant.remaining)):
                hold.slices.append((grant, part))
                wanted -= part
        if amount:
            froms: list[Line] = [("available", grant, -part) for grant, part in hold.slices]
            tos: list[Line] = [("held", grant, part) for grant, part in hold.slices]
            self._post("hold", Why(str(job_id), GATEWAY), at, [*froms, *tos])
        self.holds.append(hold)
        return hold

    def settle(self, hold: Hold, at: datetime, *, failure: str | None) -> bool:
        """Capture a hold, or release it; True where it was captured.

        A hold whose grant has closed meanwhile is captured: where it would go to is not for here.
        """
        is_captured = failure is None or any(grant.closed_at for grant, _ in hold.slices)
        hold.state, hold.settled_at = "captured" if is_captured else "released", at
        if not hold.amount:
            return is_captured
        if is_captured:
            froms: list[Line] = [("held", grant, -part) for grant, part in hold.slices]
            tos: list[Line] = [("consumed", grant, part) for grant, part in hold.slices]
            hold.txn = self._post("capture", Why(str(hold.job_id), GATEWAY), at, [*froms, *tos])
        else:
            lines = [
                line
                for grant, part in hold.slices
                for line in _move("held", "available", grant, part)
            ]
            why = Why(str(hold.job_id), GATEWAY, failure or "")
            hold.txn = self._post("release", why, at, lines)
        return is_captured

    def refund(
        self, hold: Hold, at: datetime, *, expires_at: datetime, actor: str, reason: str
    ) -> None:
        why = Why(str(hold.job_id), actor, reason)
        grant = self._draft("refund", hold.amount, at, expires_at, why)
        lines = _move("consumed", "available", grant, hold.amount)
        self._post("refund", why, at, lines, reverses=hold.txn)

    def take(self, amount: int, at: datetime, why: Why) -> None:
        """Adjust downwards, by no more than there is."""
        lines: list[Line] = []
        for grant in sorted(self.grants, key=lambda grant: grant.burn_down_key):
            if part := min(amount, grant.remaining):
                lines += _move("available", "issued", grant, part)
                amount -= part
        if lines:
            self._post("adjust", why, at, lines)

    def upgrade(self, plan: str, at: datetime, *, actor: str, reason: str) -> None:
        """Move to a larger plan now, with its share of what is left of the period."""
        period = self.periods[-1]
        difference = DEFAULT_PLANS[plan][0] - DEFAULT_PLANS[self.plan][0]
        prorated = (difference * (period.end - at)) // (period.end - period.start)
        self.plan = period.plan = plan
        self.next_plan = None
        if prorated:
            why = Why(f"plan:upgrade:{plan}:v1:{period.start.isoformat()}", actor, reason)
            ends_at = anchors.boundary_after(self.opened_at, period.start, 1 + ROLLOVER_PERIODS)
            grant = self._draft("plan", prorated, at, ends_at, why)
            grant.period_start = period.start
            self._post("grant", why, at, _move("issued", "available", grant, prorated))

    def close(self, at: datetime, *, actor: str, reason: str) -> None:
        """End the account: what is left is void."""
        for grant in list(self.grants):
            if grant.remaining:
                lines = _move("available", "issued", grant, grant.remaining)
                self._post("void", Why(str(grant.id), actor, reason), at, lines)
            self._close(grant, at, "voided")
        self.is_closed = True

    def _close_period(self, at: datetime) -> None:
        ended = self.periods[-1]
        cap = DEFAULT_PLANS[self.plan][0]
        kept, lines = self._roll(cap, at)
        self._post("rollover", Why(ended.start.isoformat(), CLOCK, "period closed"), at, lines)
        for grant in list(self.grants):
            is_carried = grant.source == "rollover" and grant.effective_at == at
            if is_carried:
                continue
            if not grant.remaining and not grant.held:
                self._close(grant, at, "exhausted")
            elif grant.source in ROLLABLE:
                self._close(grant, at, "rolled")
        ended.closed_at = at
        self.plan, self.next_plan = self.next_plan or self.plan, None
        self._begin_period(at, rolled_in=kept, rollover_cap=cap)

    def _roll(self, cap: int, at: datetime) -> tuple[int, list[Line]]:
        lines: list[Line] = []
        rollable = [grant for grant in self.grants if grant.source in ROLLABLE]
        over = max(0, sum(grant.remaining for grant in rollable) - cap)
        kept_total = 0
        for grant in sorted(rollable, key=lambda grant: (grant.expires_at or NEVER, grant.order)):
            trimmed = min(over, grant.remaining)
            over -= trimmed
            kept = grant.remaining - trimmed
            if trimmed:
                lines += _move("available", "expired", grant, trimmed)
            if kept:
                successor = self._draft("rollover", kept, at, grant.expires_at, Why(at.isoformat()))
                successor.parent, successor.period_start = grant, at
                successor.generation = grant.generation + 1
                lines += [("available", grant, -kept), ("available", successor, kept)]
                kept_total += kept
        return kept_total, lines

    def _begin_period(self, at: datetime, *, rolled_in: int = 0, rollover_cap: int = 0) -> None:
        end = anchors.boundary_after(self.opened_at, at)
        consumed = self.balances["consumed"]
        self.periods.append(Period(at, end, self.plan, rolled_in, rollover_cap, consumed))
        amount = DEFAULT_PLANS[self.plan][0]
        ends_at = anchors.boundary_after(self.opened_at, at, 1 + ROLLOVER_PERIODS)
        why = Why(f"plan:{at.isoformat()}", CLOCK, f"{self.plan} v1")
        grant = self._draft("plan", amount, at, ends_at, why)
        grant.period_start = at
        self._post("grant", why, at, _move("issued", "available", grant, amount))

    def _draft(
        self, source: str, amount: int, at: datetime, expires_at: datetime | None, why: Why
    ) -> Grant:
        grant_id = UUID(int=self.rng.getrandbits(128), version=4)
        grant = Grant(grant_id, source, amount, why, at, expires_at, next(self.order))
        self.grants.append(grant)
        return grant

    def _close(self, grant: Grant, at: datetime, reason: str) -> None:
        grant.closed_at, grant.closed_reason = at, reason
        self.grants.remove(grant)
        self.closed_grants.append(grant)

    def _post(
        self,
        op: str,
        why: Why,
        at: datetime,
        lines: Sequence[Line],
        *,
        reverses: Txn | None = None,
    ) -> Txn:
        balances = []
        for bucket, grant, amount in lines:
            self.balances[bucket] += amount
            balances.append(self.balances[bucket])
            if bucket == "available":
                grant.remaining += amount
            elif bucket == "held":
                grant.held += amount
        seq = len(self.txns) + 1
        txn = Txn(self.account_id, seq, op, why, at, lines, balances, reverses)
        self.txns.append(txn)
        return txn


def digest_of(txn: Txn, before: bytes) -> bytes:
    """Hash as `ledger_hash` does: JSON as Postgres prints it, behind the hash before."""
    microseconds = round(txn.at.timestamp() * MICROSECONDS)
    fields = [
        str(txn.account_id),
        txn.seq,
        *(txn.op, *txn.why),
        txn.reverses.id if txn.reverses else None,
        microseconds,
        [bucket for bucket, _, _ in txn.lines],
        [str(grant.id) for _, grant, _ in txn.lines],
        [amount for _, _, amount in txn.lines],
    ]
    return hashlib.sha256(before + json.dumps(fields, ensure_ascii=False).encode()).digest()


def _move(source: str, target: str, grant: Grant, amount: int) -> list[Line]:
    return [(source, grant, -amount), (target, grant, amount)]
