"""The ledger as a child would build it: lists and sums, no database. What the real one must equal.

Written apart from the code it judges: it imports nothing of `billing`, reckons months in its own
way, and keeps each credit in exactly one of the grants, the holds, `consumed` or `expired`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

FOREVER = datetime.max.replace(tzinfo=UTC)
PRIORITY = {"promo": 40, "plan": 50, "rollover": 50, "refund": 50, "adjustment": 50, "topup": 60}


class Refused(Exception):  # noqa: N818 - a refusal is expected
    """The operation is not possible; nothing has changed."""


@dataclass
class ModelPlan:
    name: str
    credits: int
    cap: int
    periods: int


@dataclass(eq=False)
class ModelGrant:
    """Compared as itself: two grants may look alike."""

    source: str
    amount: int
    begins: datetime
    ends: datetime | None
    priority: int
    remaining: int = 0
    held: int = 0
    has_begun: bool = True
    closed: str | None = None
    period: datetime | None = None
    generation: int = 0

    def facts(self) -> tuple[object, ...]:
        return (
            self.source,
            self.amount,
            self.remaining,
            self.held,
            self.begins,
            self.ends,
            self.closed,
            self.generation,
        )


@dataclass(eq=False)
class ModelHold:
    amount: int
    placed: datetime
    slices: list[tuple[ModelGrant | None, int]]
    state: str = "held"
    is_refunded: bool = False


def months_after(anchor: datetime, months: int) -> datetime:
    """Step month by month, then step back from days that the month does not have."""
    year, month = anchor.year, anchor.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    for day in (anchor.day, 30, 29, 28):
        if day <= anchor.day:
            try:
                return anchor.replace(year=year, month=month, day=day)
            except ValueError:
                continue
    raise AssertionError("every month has 28 days")


@dataclass
class ModelAccount:
    """One account. `now` is set by the test before each operation, and never goes back."""

    plan: ModelPlan
    anchor: datetime
    credit_limit: int = 0
    now: datetime = field(default=FOREVER)
    months: int = 0
    next_plan: ModelPlan | None = None
    grants: list[ModelGrant] = field(default_factory=list)
    holds: dict[UUID, ModelHold] = field(default_factory=dict)
    consumed: int = 0
    expired: int = 0
    overdrawn: int = 0
    caps: dict[datetime, int] = field(default_factory=dict)
    rolled: dict[datetime, int] = field(default_factory=dict)
    is_suspended: bool = False

    def __post_init__(self) -> None:
        self.now = self.anchor
        self.caps[self.anchor] = self.rolled[self.anchor] = 0
        self._plan_grant(self.plan.credits, self.anchor)

    # What can be asked -----------------------------------------------------------------------

    @property
    def period_start(self) -> datetime:
        return months_after(self.anchor, self.months)

    @property
    def period_end(self) -> datetime:
        return months_after(self.anchor, self.months + 1)

    @property
    def available(self) -> int:
        return sum(grant.remaining for grant in self.grants) - self.overdrawn

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.state == "held")

    @property
    def open_holds(self) -> int:
        return sum(hold.state == "held" for hold in self.holds.values())

    def spendable(self) -> list[ModelGrant]:
        """Grants that can pay, in the order in which they do."""
        grants = [grant for grant in self.grants if grant.remaining and not grant.closed]
        return sorted(grants, key=lambda g: (g.priority, g.ends or FOREVER, g.begins))

    # Time ------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Let everything happen that is due by `now`, in its order."""
        while (due := self._next_due()) <= self.now:
            for grant in self.grants:
                if grant.ends == due and not grant.closed:
                    self.expired += grant.remaining
                    grant.remaining, grant.closed = 0, "expired"
            if self.period_end == due:
                self._close_period(due)
            begin = [g for g in self.grants if not g.has_begun and not g.closed and g.begins == due]
            for grant in sorted(begin, key=lambda g: (g.priority, g.ends or FOREVER)):
                grant.has_begun = True
                self._fill(grant, grant.amount)

    def _next_due(self) -> datetime:
        dues = [self.period_end]
        for grant in self.grants:
            if not grant.closed:
                dues += [grant.ends or FOREVER] + ([] if grant.has_begun else [grant.begins])
        return min(dues)

    def _close_period(self, at: datetime) -> None:
        rolling = [g for g in self.grants if g.source in {"plan", "rollover"} and not g.closed]
        others = [g for g in self.grants if g.source not in {"plan", "rollover"} and not g.closed]
        over = max(0, sum(grant.remaining for grant in rolling) - self.plan.cap)
        kept_total = 0
        for grant in sorted(rolling, key=lambda g: g.ends or FOREVER):
            lost = min(over, grant.remaining)
            over -= lost
            self.expired += lost
            kept = grant.remaining - lost
            grant.remaining = 0
            grant.closed = "rolled" if kept or lost or grant.held else "exhausted"
            if kept:
                self._carry(grant, kept, at, at, 1)
                kept_total += kept
        for grant in others:
            if grant.has_begun and not grant.remaining and not grant.held:
                grant.closed = "exhausted"
        self.caps[at], self.rolled[at] = self.plan.cap, kept_total
        self.plan, self.next_plan = self.next_plan or self.plan, None
        self.months += 1
        self._plan_grant(self.plan.credits, at)

    def _carry(
        self, grant: ModelGrant, amount: int, at: datetime, period: datetime, generations: int
    ) -> ModelGrant:
        carried = ModelGrant(
            "rollover",
            amount,
            at,
            grant.ends,
            grant.priority,
            remaining=amount,
            period=period,
            generation=grant.generation + generations,
        )
        self.grants.append(carried)
        return carried

    def _plan_grant(self, credits_: int, at: datetime) -> None:
        if credits_:
            ends = months_after(self.anchor, self.months + 1 + self.plan.periods)
            grant = ModelGrant("plan", credits_, at, ends, 50, period=self.period_start)
            self.grants.append(grant)
            self._fill(grant, credits_)

    def _fill(self, grant: ModelGrant, amount: int) -> None:
        """Put credits into a grant; they pay what is overdrawn first, charges before holds."""
        grant.remaining += amount
        on_limit = self._slices_on_limit()
        charged = self.overdrawn - sum(hold.slices[n][1] for hold, n in on_limit)
        part = min(grant.remaining, charged)
        grant.remaining -= part
        self.overdrawn -= part
        for hold, n in on_limit:
            part = min(grant.remaining, hold.slices[n][1])
            if not part:
                return
            left = hold.slices[n][1] - part
            hold.slices[n] = (None, left) if left else (grant, part)
            if left:
                hold.slices.append((grant, part))
            grant.remaining -= part
            grant.held += part
            self.overdrawn -= part

    def _slices_on_limit(self) -> list[tuple[ModelHold, int]]:
        found = [
            (hold.placed, job_id, hold, n)
            for job_id, hold in self.holds.items()
            if hold.state == "held"
            for n, (grant, _) in enumerate(hold.slices)
            if grant is None
        ]
        return [(hold, n) for _, _, hold, n in sorted(found, key=lambda item: item[:2])]

    # Operations ------------------------------------------------------------------------------

    def give(
        self, source: str, amount: int, begins: datetime | None, ends: datetime | None
    ) -> None:
        self.catch_up()
        begins = max(begins or self.now, self.now)
        if ends is not None and ends <= begins:
            raise Refused
        grant = ModelGrant(source, amount, begins, ends, PRIORITY[source])
        grant.has_begun = begins <= self.now
        self.grants.append(grant)
        if grant.has_begun:
            self._fill(grant, amount)

    def hold(self, job_id: UUID, amount: int) -> None:
        self.catch_up()
        if job_id in self.holds or self.is_suspended:
            raise Refused
        if self.available + self.credit_limit < amount:
            raise Refused
        slices: list[tuple[ModelGrant | None, int]] = []
        wanted = amount
        for grant in self.spendable():
            part = min(wanted, grant.remaining)
            if part:
                slices.append((grant, part))
                grant.remaining -= part
                grant.held += part
                wanted -= part
        if wanted:
            slices.append((None, wanted))
            self.overdrawn += wanted
        self.holds[job_id] = ModelHold(amount, self.now, slices)

    def capture(self, job_id: UUID) -> None:
        hold = self._open(job_id)
        self.catch_up()
        hold.state = "captured"
        self.consumed += hold.amount
        for grant, part in hold.slices:
            if grant:
                grant.held -= part

    def release(self, job_id: UUID) -> None:
        hold = self._open(job_id)
        self.catch_up()
        hold.state = "released"
        back: list[tuple[ModelGrant, int]] = []
        for grant, part in hold.slices:
            if grant is None:
                self.overdrawn -= part
                continue
            grant.held -= part
            if not grant.closed:
                back.append((grant, part))
            elif grant.closed != "voided":
                carried = self._late(grant, part)
                self.expired += part - carried
                if carried:
                    generations = sum(p > (grant.period or p) for p in self.caps)
                    new = self._carry(grant, carried, self.now, self.period_start, generations)
                    new.remaining = 0
                    back.append((new, carried))
        for grant, part in back:
            self._fill(grant, part)

    def _late(self, grant: ModelGrant, part: int) -> int:
        """Tell how much of a late release the caps of the periods since have room for."""
        if grant.closed != "rolled" or (grant.ends and grant.ends <= self.now) or not grant.period:
            return 0
        later = [period for period in self.caps if period > grant.period]
        room = min([part, *(self.caps[period] - self.rolled[period] for period in later)])
        for period in later:
            self.rolled[period] += room
        return room

    def refund(self, job_id: UUID) -> None:
        hold = self.holds.get(job_id)
        if hold is None or hold.state != "captured" or not hold.amount or hold.is_refunded:
            raise Refused
        self.catch_up()
        hold.is_refunded = True
        self.consumed -= hold.amount
        ends: datetime | None = self.now + timedelta(days=30)
        for grant, _ in hold.slices:
            if grant and ends:
                ends = max(ends, grant.ends) if grant.ends else None
        refunded = ModelGrant("refund", hold.amount, self.now, ends, PRIORITY["refund"])
        self.grants.append(refunded)
        self._fill(refunded, hold.amount)

    def adjust(self, amount: int) -> None:
        self.catch_up()
        if amount > 0:
            self.give("adjustment", amount, None, None)
            return
        wanted = -amount
        if self.available + self.credit_limit < wanted:
            raise Refused
        for grant in self.spendable():
            part = min(wanted, grant.remaining)
            grant.remaining -= part
            wanted -= part
        self.overdrawn += wanted

    def void(self, grant: ModelGrant) -> None:
        self.catch_up()
        if grant.closed:
            raise Refused
        grant.remaining, grant.closed = 0, "voided"

    def change_plan(self, plan: ModelPlan) -> None:
        self.catch_up()
        if plan.name == self.plan.name:
            raise Refused
        if plan.credits <= self.plan.credits:
            self.next_plan = plan
            return
        left = (self.period_end - self.now) // timedelta(microseconds=1)
        whole = (self.period_end - self.period_start) // timedelta(microseconds=1)
        more = (plan.credits - self.plan.credits) * left // whole
        self.plan, self.next_plan = plan, None
        self._plan_grant(more, self.now)

    def set_limit(self, credit_limit: int) -> None:
        self.catch_up()
        if self.available < -credit_limit:
            raise Refused
        self.credit_limit = credit_limit

    def _open(self, job_id: UUID) -> ModelHold:
        hold = self.holds.get(job_id)
        if hold is None or hold.state != "held":
            raise Refused
        return hold
