"""A state machine that does to the real ledger and to the model the same things, and compares.

Every operation is a transaction of its own, committed. What is drawn never depends on what came of
it, since who wins a race is not hypothesis' to choose and must not change the draws after it. Time
is the machine's: it hands its own `now` to the ledger and jumps to the instants at which something
is due, and just before and after.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import accounts, ledger, periods, subscriptions
from billing.db import SessionFactory, transact
from billing.errors import BillingError
from billing.invariants import check_account
from billing.posting import Balance
from billing.tables import CreditAccount, CreditGrant, Hold
from tests.billing.machine_plans import PLANS
from tests.billing.model import ModelAccount, Refused

ANCHORS = [
    datetime(2024, 1, 31, 12, 0, tzinfo=UTC),
    datetime(2023, 8, 30, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2024, 2, 29, 0, 0, tzinfo=UTC),
    datetime(2023, 12, 1, 6, 30, tzinfo=UTC),
]
MICROSECOND = timedelta(microseconds=1)
amounts = st.sampled_from([1, 24, 25, 26, 50, 75, 100, 130])
spans = st.sampled_from(
    [MICROSECOND, timedelta(hours=5), timedelta(days=9), timedelta(days=31), timedelta(days=70)]
)

Work = Callable[[AsyncSession], Awaitable[Any]]


class LedgerMachine(RuleBasedStateMachine):
    """Eighteen rules over one account; subclasses give it a loop and a database."""

    runner: asyncio.Runner
    sessions: SessionFactory
    steps = 0

    jobs = Bundle("jobs")

    @initialize(
        plan=st.sampled_from(sorted(PLANS)),
        anchor=st.sampled_from(ANCHORS),
        limit=st.sampled_from([0, 0, 60]),
    )
    def open_account(self, plan: str, anchor: datetime, limit: int) -> None:
        async def work(db: AsyncSession) -> UUID:
            account = await accounts.create_account(
                db, name="machine", plan=plan, credit_limit=limit, actor="test", at=anchor
            )
            return account.id

        self.model = ModelAccount(PLANS[plan], anchor, credit_limit=limit)
        self.account_id: UUID = self.run(work)
        self.last: tuple[Work, Callable[[], None]] | None = None

    # Plumbing --------------------------------------------------------------------------------

    def run(self, work: Work) -> Any:
        return self.runner.run(transact(self.sessions, work))

    def both(self, work: Work, model: Callable[[], None]) -> bool:
        """Do it in both worlds; both do it, or both refuse."""
        self.last = (work, model)
        try:
            self.run(work)
            refused: BillingError | None = None
        except BillingError as exc:
            refused = exc
        try:
            model()
        except Refused:
            assert refused is not None, "the ledger did what the model refuses"
        else:
            assert refused is None, f"the ledger refused: {refused!r}"
        if refused is not None:
            self.last = None  # later it may be possible, and then it would not be a repeat
        return refused is None

    # Rules -----------------------------------------------------------------------------------

    @rule(source=st.sampled_from(["topup", "promo"]), amount=amounts, later=st.none() | spans,
          life=st.none() | spans)  # fmt: skip
    def give(
        self, source: str, amount: int, later: timedelta | None, life: timedelta | None
    ) -> None:
        now, ref = self.model.now, str(uuid4())
        begins = now + later if later else None
        ends = (begins or now) + life if life else None
        self.both(
            lambda db: ledger.grant_credits(
                db, self.account_id, amount=amount, source=source, ref=ref, actor="test",
                reason="rule", effective_at=begins, expires_at=ends, at=now,
            ),
            lambda: self.model.give(source, amount, begins, ends),
        )  # fmt: skip

    @rule(amount=amounts, later=spans, lives=st.tuples(st.none() | spans, st.none() | spans),
          sources=st.permutations(["topup", "promo"]))  # fmt: skip
    def give_two_for_one_instant(
        self,
        amount: int,
        later: timedelta,
        lives: tuple[timedelta | None, timedelta | None],
        sources: list[str],
    ) -> None:
        """Of two that begin together one covers what is overdrawn, and always the same one."""
        for source, life in zip(sources, lives, strict=True):
            self.give(source, amount, later, life)

    @rule(target=jobs, amount=amounts | st.just(0))
    def hold(self, amount: int) -> Any:
        job_id, now = uuid4(), self.model.now
        self.both(
            lambda db: ledger.place_hold(
                db, account_id=self.account_id, job_id=job_id, amount=amount,
                concurrency_max=None, at=now,
            ),
            lambda: self.model.hold(job_id, amount),
        )  # fmt: skip
        return job_id  # one that was refused is a job to capture and to release, too

    @rule(job_id=jobs)
    def capture(self, job_id: UUID) -> None:
        now = self.model.now
        self.both(lambda db: ledger.capture(db, job_id, at=now), lambda: self.model.capture(job_id))

    @rule(job_id=jobs)
    def release(self, job_id: UUID) -> None:
        now = self.model.now
        self.both(
            lambda db: ledger.release(db, job_id, reason="rule", at=now),
            lambda: self.model.release(job_id),
        )

    @rule(job_id=consumes(jobs))
    def refund(self, job_id: UUID) -> None:
        now = self.model.now
        self.both(
            lambda db: ledger.refund(db, job_id, actor="test", reason="rule", at=now),
            lambda: self.model.refund(job_id),
        )

    @rule(amount=amounts, sign=st.sampled_from([1, -1]))
    def adjust(self, amount: int, sign: int) -> None:
        now, ref = self.model.now, str(uuid4())
        self.both(
            lambda db: ledger.adjust(
                db, self.account_id, amount=sign * amount, ref=ref, actor="test", reason="rule",
                at=now,
            ),
            lambda: self.model.adjust(sign * amount),
        )  # fmt: skip

    @rule(which=st.integers(0, 99))
    def void(self, which: int) -> None:
        """Void a given grant: those the model can find again in the database by what they are."""
        self.compare()
        rows = self.grant_rows()
        candidates = [
            (grant, row)
            for grant, row in zip(self.model.grants, rows, strict=True)
            if grant.source in {"topup", "promo", "refund", "plan"}
        ]
        if not candidates:
            return
        grant, row = candidates[which % len(candidates)]
        now = self.model.now
        self.both(
            lambda db: ledger.void_grant(db, row.id, actor="test", reason="rule", at=now),
            lambda: self.model.void(grant),
        )

    @rule(span=spans)
    def pass_time(self, span: timedelta) -> None:
        self.model.now += span

    @rule(offset=st.sampled_from([-MICROSECOND, timedelta(0), MICROSECOND]))
    def pass_to_what_is_due(self, offset: timedelta) -> None:
        dues = [self.model.period_end]
        dues += [grant.ends for grant in self.model.grants if grant.ends and not grant.closed]
        dues += [grant.begins for grant in self.model.grants if not grant.has_begun]
        self.model.now = max(self.model.now, min(dues) + offset)

    @rule()
    def sweep(self) -> None:
        """Advance at an instant at which nobody asked for anything: it changes nothing (I13)."""
        now = self.model.now
        self.run(lambda db: periods.advance(db, self.account_id, at=now))

    @rule(plan=st.sampled_from(sorted(PLANS)))
    def change_plan(self, plan: str) -> None:
        now = self.model.now
        self.both(
            lambda db: subscriptions.change_plan(db, self.account_id, plan, actor="test", at=now),
            lambda: self.model.change_plan(PLANS[plan]),
        )

    @rule(limit=st.sampled_from([0, 60, 200]))
    def set_limit(self, limit: int) -> None:
        now = self.model.now
        self.both(
            lambda db: accounts.set_credit_limit(
                db, self.account_id, limit, actor="test", reason="rule", at=now
            ),
            lambda: self.model.set_limit(limit),
        )

    @rule()
    def suspend_or_resume(self) -> None:
        change = accounts.resume_account if self.model.is_suspended else accounts.suspend_account
        self.run(lambda db: change(db, self.account_id, actor="test", reason="rule"))
        self.model.is_suspended = not self.model.is_suspended

    @rule()
    def send_the_last_call_again(self) -> None:
        """A caller that did not hear the answer repeats itself: a reference works once."""
        if self.last is None:
            return
        work, _ = self.last
        before = self.picture()
        try:
            self.run(work)
        except BillingError:
            assert self.picture() == before
        else:
            self.last = None
            self.assert_repeat_was_harmless(before)

    def assert_repeat_was_harmless(self, before: tuple[Any, ...]) -> None:
        """What may be said twice (a plan asked for, a limit) says the same twice."""
        assert self.picture() == before

    @rule(target=jobs, amount=amounts)
    def two_holds_at_once(self, amount: int) -> Any:
        """The model takes them in the order in which the ledger did."""
        now, job_ids = self.model.now, (uuid4(), uuid4())

        def placing(job_id: UUID) -> Work:
            return lambda db: ledger.place_hold(
                db, account_id=self.account_id, job_id=job_id, amount=amount,
                concurrency_max=None, at=now,
            )  # fmt: skip

        self.race(*((placing(job), self._model_hold(job, amount)) for job in job_ids))
        return multiple(*job_ids)

    def _model_hold(self, job_id: UUID, amount: int) -> Callable[[], None]:
        return lambda: self.model.hold(job_id, amount)

    @rule(job_id=jobs)
    def capture_and_release_at_once(self, job_id: UUID) -> None:
        """One of the two ends the job, and the other is told so."""
        now = self.model.now
        self.race(
            (lambda db: ledger.capture(db, job_id, at=now), lambda: self.model.capture(job_id)),
            (
                lambda db: ledger.release(db, job_id, reason="rule", at=now),
                lambda: self.model.release(job_id),
            ),
        )

    def race(self, *calls: tuple[Work, Callable[[], None]]) -> None:
        """Do all at once; then let the model do first what the ledger did, then the rest."""
        self.last = None

        async def run_all() -> list[Any]:
            work = (transact(self.sessions, work) for work, _ in calls)
            return await asyncio.gather(*work, return_exceptions=True)

        outcomes = self.runner.run(run_all())
        done = [(o, model) for o, (_, model) in zip(outcomes, calls, strict=True)]
        # What succeeded, in the order in which it did: each answer tells what was left.
        for _, model in sorted(
            (pair for pair in done if isinstance(pair[0], Balance)),
            key=lambda pair: -pair[0].available,
        ):
            model()
        for outcome, model in done:
            if isinstance(outcome, Balance):
                continue
            assert isinstance(outcome, BillingError), outcome
            try:
                model()
            except Refused:
                continue
            raise AssertionError(f"the ledger refused: {outcome!r}")

    # What must hold --------------------------------------------------------------------------

    @rule()
    def compare(self) -> None:
        """Look: only now must the ledger have caught up with time."""
        now = self.model.now
        self.model.catch_up()
        balance = self.run(lambda db: ledger.balance_of(db, self.account_id, at=now))
        model = self.model
        assert (balance.available, balance.held, balance.consumed, balance.expired) == (
            model.available,
            model.held,
            model.consumed,
            model.expired,
        )
        assert [facts_of(row) for row in self.grant_rows()] == [
            grant.facts() for grant in model.grants
        ]

    @invariant()
    def never_beyond_the_limit(self) -> None:
        type(self).steps += 1  # one for each rule that was run
        if hasattr(self, "model"):
            assert self.model.available >= -self.model.credit_limit

    def teardown(self) -> None:
        if not hasattr(self, "account_id"):
            return
        self.compare()
        breaches = self.run(lambda db: check_account(db, self.account_id))
        assert breaches == []

    def grant_rows(self) -> list[CreditGrant]:
        async def work(db: AsyncSession) -> list[CreditGrant]:
            return list(
                await db.scalars(
                    select(CreditGrant)
                    .where(CreditGrant.account_id == self.account_id)
                    .order_by(CreditGrant.seq)
                )
            )

        rows: list[CreditGrant] = self.run(work)
        return rows

    def picture(self) -> tuple[Any, ...]:
        """All that the ledger says of the account now, less how often it was asked."""

        async def work(db: AsyncSession) -> tuple[Any, ...]:
            await periods.advance(db, self.account_id, at=self.model.now)
            await db.flush()
            balance = await ledger.balance_of(db, self.account_id, at=self.model.now)
            seq = await db.scalar(
                select(CreditAccount.account_seq).where(CreditAccount.account_id == self.account_id)
            )
            holds = (
                await db.execute(
                    select(Hold.job_id, Hold.state)
                    .where(Hold.account_id == self.account_id)
                    .order_by(Hold.job_id)
                )
            ).all()
            return balance, seq, [tuple(hold) for hold in holds]

        pictured: tuple[Any, ...] = self.run(work)
        return pictured


def facts_of(row: CreditGrant) -> tuple[object, ...]:
    return (
        row.source,
        row.amount,
        row.remaining,
        row.held,
        row.effective_at,
        row.expires_at,
        row.closed_reason,
        row.generation,
    )


def machine_for(runner: asyncio.Runner, sessions: SessionFactory) -> type[LedgerMachine]:
    """Give the machine its loop and its database."""
    return type("Machine", (LedgerMachine,), {"runner": runner, "sessions": sessions})
