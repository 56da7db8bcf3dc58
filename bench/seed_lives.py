"""How an account of a seed lives: its plan, keys, calls, payments, troubles and end.

Most are small and free, few are large: 2 % of the accounts make 40 % of the calls, as customers do.
Everything is drawn from one seeded generator, so the same seed gives the same lives.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final
from uuid import UUID

from bench.seed_books import Books, Hold, Why
from billing.keys import BASE62
from billing.plans import DEFAULT_PLANS
from billing.pricing import CREDITS_PER_CUTOUT
from core import CutoutOptions

# plan: its share of the accounts, the calls of an average account of it
PLANS: Final = {
    "free": (0.70, 5),
    "starter": (0.20, 21),
    "growth": (0.08, 92),
    "scale": (0.017, 400),
    "enterprise": (0.003, 720),
}
LARGER: Final = {"free": "starter", "starter": "growth", "growth": "scale"}
ADJECTIVES: Final = ("Amber", "Blue", "Brisk", "Calm", "Clear", "Coral", "Early", "Golden", "Keen")
NOUNS: Final = ("Atlas", "Bakery", "Camera", "Depot", "Frame", "Garden", "Harbor", "Studio")
ENDINGS: Final = ("GmbH", "Ltd", "Inc", "& Co", "Shop", "Labs")
FAILURES: Final = ("unreadable_image", "no_foreground", "deadline_exceeded", "internal_error")
STAFF: Final = ("staff:olga@example.com", "staff:finn@example.com", "staff:sam@example.com")
RECEIVER: Final = "https://hooks.example.com/cutout"
TTL: Final = {plan: columns[-1] for plan, columns in DEFAULT_PLANS.items()}

OPTIONS: Final = json.dumps(
    {name: value for name, value in asdict(CutoutOptions()).items() if name != "bg_image"}
)
STAGES: Final = ("decode", "segment", "refine", "decontaminate", "compose", "encode", "store")


@dataclass(slots=True)
class Key:
    """An API key whose text nobody knows."""

    id: UUID
    key_id: str
    env: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(slots=True)
class Call:
    """One job, as its row will be."""

    hold: Hold
    key: Key
    is_async: bool
    ends: str
    """succeeded, failed or canceled; queued or processing where it has not ended."""
    failure: str | None
    took: timedelta
    waited: timedelta
    is_told: bool


@dataclass(slots=True)
class Act:
    """What somebody did, for the audit trail."""

    at: datetime
    actor: str
    action: str
    object_name: str
    reason: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


@dataclass(slots=True)
class Life:
    """An account and all that is its own."""

    id: UUID
    name: str
    plan: str
    opened_at: datetime
    until: datetime
    rng: Random
    books: Books
    status: str = "active"
    keys: list[Key] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    notes: list[tuple[datetime, str, str]] = field(default_factory=list)
    agenda: list[tuple[datetime, int, Callable[[datetime], None]]] = field(default_factory=list)
    turn: Iterator[int] = field(default_factory=count)

    def live(self) -> None:
        """Play the agenda in order, up to the end."""
        heapify(self.agenda)
        while self.agenda:
            at, _, happen = heappop(self.agenda)
            if at > self.until or self.books.is_closed:
                continue
            self.books.advance(at)
            happen(at)
        self.books.advance(self.until)

    def plan_for(self, at: datetime, happen: Callable[[datetime], None]) -> None:
        heappush(self.agenda, (at, next(self.turn), happen))

    def some_time(self) -> datetime:
        """Draw a moment of the account's life: more late than early, more by day than by night."""
        span = (self.until - self.opened_at).total_seconds()
        at = self.opened_at + timedelta(seconds=span * self.rng.random() ** 0.8)
        hour = min(23, max(0, self.rng.gauss(14, 4)))
        by_day = at.replace(hour=int(hour), minute=int(hour % 1 * 60))
        return by_day if self.opened_at < by_day < self.until else at

    def act(self, at: datetime, action: str, object_name: str, reason: str, **facts: Any) -> str:
        """Note an act for the audit trail, and say whose it was."""
        actor = self.rng.choice(STAFF)
        self.acts.append(Act(at, actor, action, object_name, reason, **facts))
        return actor

    def call(self, at: datetime) -> None:
        if self.status != "active":
            return
        rng = self.rng
        key = rng.choices(self.keys, [1, 0.08, 0.5, 0.5][: len(self.keys)])[0]
        amount = 0 if key.env == "test" else CREDITS_PER_CUTOUT
        hold = self.books.hold(_uuid(rng), key.id, amount, at)
        if hold is None:
            return  # refused: it leaves no trace
        is_async = rng.random() < 0.4
        waited = timedelta(seconds=rng.expovariate(1 / 0.15) + (0.4 if is_async else 0))
        took = waited + timedelta(seconds=rng.lognormvariate(-0.6, 0.5))
        luck = rng.random()
        failure = rng.choice(FAILURES) if luck < 0.03 else None
        ends = "failed" if failure else "canceled" if is_async and luck > 0.995 else "succeeded"
        is_told = is_async and self.id.int % 5 == 0
        call = Call(hold, key, is_async, ends, failure, took, waited, is_told)
        self.calls.append(call)
        key.last_used_at = at
        self.plan_for(at + took, lambda end: self.settle(call, end))
        if ends == "succeeded" and amount and rng.random() < 0.004:
            self.plan_for(at + took + timedelta(hours=5), lambda then: self.refund(call, then))

    def wait_in_line(self, at: datetime) -> None:
        """Submit a job that no worker has come to yet."""
        key = self.keys[0]
        hold = self.books.hold(_uuid(self.rng), key.id, CREDITS_PER_CUTOUT, at)
        if hold is not None:
            nothing = timedelta(0)
            self.calls.append(
                Call(hold, key, True, "queued", None, nothing, nothing, is_told=False)  # noqa: FBT003 - asynchronous
            )

    def settle(self, call: Call, at: datetime) -> None:
        failure = None if call.ends == "succeeded" else call.failure or "canceled"
        if self.books.settle(call.hold, at, failure=failure):
            call.ends, call.failure = "succeeded", None

    def refund(self, call: Call, at: datetime) -> None:
        reason = "hair was cut off"
        after = {"credits": call.hold.amount}
        job = f"job {call.hold.job_id}"
        actor = self.act(at, "job.refund", job, reason, after=after)
        ends_at = at + timedelta(days=60)
        self.books.refund(call.hold, at, expires_at=ends_at, actor=actor, reason=reason)

    def top_up(self, at: datetime) -> None:
        credits_ = self.rng.choice((1_000, 5_000, 20_000))
        self._give(at, "topup", credits_, None, "bought")

    def promote(self, at: datetime) -> None:
        self._give(at, "promo", 100, at + timedelta(days=self.rng.choice((14, 30))), "welcome")

    def adjust(self, at: datetime) -> None:
        self._give(at, "adjustment", 75, None, "outage of the day before")

    def take_back(self, at: datetime) -> None:
        ref, reason = f"seed-{_uuid(self.rng)}", "granted twice by mistake"
        actor = self.act(at, "credits.adjust", f"account {self.id}", reason, after={"credits": -50})
        self.books.take(50, at, Why(ref, actor, reason))

    def _give(
        self, at: datetime, source: str, amount: int, expires_at: datetime | None, reason: str
    ) -> None:
        ref = f"seed-{_uuid(self.rng)}"
        action = "credits.adjust" if source == "adjustment" else "credits.grant"
        after = {"credits": amount, "source": source, "ref": ref}
        actor = self.act(at, action, f"account {self.id}", reason, after=after)
        self.books.give(source, amount, at, Why(ref, actor, reason), expires_at=expires_at)

    def upgrade(self, at: datetime) -> None:
        before = self.books.plan
        if (plan := LARGER.get(before)) is None:
            return
        facts = {"before": {"plan": before}, "after": {"plan": plan}}
        actor = self.act(at, "subscription.change", f"account {self.id}", "asked for it", **facts)
        self.books.upgrade(plan, at, actor=actor, reason="asked for it")

    def suspend(self, at: datetime) -> None:
        self._become(at, "suspended", "unpaid invoice")

    def end(self, at: datetime) -> None:
        if any(hold.state == "held" for hold in self.books.holds):
            return
        actor = self._become(at, "closed", "asked to be closed")
        self.books.close(at, actor=actor, reason="asked to be closed")

    def _become(self, at: datetime, status: str, reason: str) -> str:
        facts = {"before": {"status": self.status}, "after": {"status": status}}
        self.status = status
        return self.act(at, f"account.{status}", f"account {self.id}", reason, **facts)


def new_life(seed: int, number: int, *, since: datetime, until: datetime) -> Life:
    """Draw one account, and let it live from some day after `since` on until `until`."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - a seed wants to be repeated
    plan = rng.choices(list(PLANS), [share for share, _ in PLANS.values()])[0]
    span = (until - since).total_seconds()
    is_small = plan == "free"
    opened_at = since + timedelta(seconds=span * 0.98 * rng.random() ** (1.0 if is_small else 2.0))
    name = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {number:05d} {rng.choice(ENDINGS)}"
    account_id = _uuid(rng)
    books = Books(account_id, plan, opened_at, rng)
    life = Life(account_id, name, plan, opened_at, until, rng, books)
    life.acts.append(
        Act(
            *(opened_at, STAFF[0], "account.create", f"account {account_id}", ""),
            after={"name": name, "plan": plan, "credit_limit": 0},
        )
    )
    _give_keys(life)
    _make_plans(life)
    life.live()
    return life


def _give_keys(life: Life) -> None:
    envs = ["live", "test"][: 1 + (life.rng.random() < 0.3)]
    if life.plan == "enterprise":
        envs.append("enterprise")
    for env in envs:
        key_id = "".join(life.rng.choices(BASE62, k=8))
        life.keys.append(Key(_uuid(life.rng), key_id, env, f"{env} key", life.opened_at))


def _make_plans(life: Life) -> None:
    rng = life.rng
    for _ in range(round(rng.lognormvariate(0, 0.6) * PLANS[life.plan][1])):
        life.plan_for(life.some_time(), life.call)
    is_paying = life.plan != "free"
    chances: list[tuple[float, Callable[[datetime], None]]] = [
        (0.25 if is_paying else 0.01, life.top_up),
        (0.12, life.promote),
        (0.02, life.adjust),
        (0.01, life.take_back),
        (0.05, life.upgrade),
        (0.03, life.suspend),
        (0.02, life.end),
    ]
    for chance, happen in chances:
        if rng.random() < chance:
            life.plan_for(life.some_time(), happen)
    if rng.random() < 0.05:
        life.notes.append((life.some_time(), STAFF[2], "Asked for an invoice by post."))
    if rng.random() < 0.004:  # what waits at the end
        for ago_s in (0.3, 20.0, 90.0):
            life.plan_for(life.until - timedelta(seconds=ago_s * rng.random()), life.wait_in_line)


def _uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
