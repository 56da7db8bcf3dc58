"""The rows of a seed's lives, table by table in the order in which they refer to each other."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from random import Random
from typing import Any, Final
from uuid import UUID

from bench.seed_books import Books, Grant, Txn, digest_of
from bench.seed_lives import OPTIONS, RECEIVER, STAGES, TTL, Act, Call, Life
from billing import audit
from billing.grants import PRIORITIES
from billing.plans import DEFAULT_PLANS
from billing.staff_tables import AuditEvent

Row = tuple[Any, ...]

COLUMNS: Final = {
    "account": "id name status created_at",
    "subscription": "id account_id plan_version_id next_plan_version_id anchor_at period_start"
    " period_end ended_at",
    "billing_period": "account_id period_start period_end plan_version_id rolled_in rollover_cap"
    " consumed_before closed_at",
    "credit_account": "account_id available held consumed expired open_holds account_seq last_hash"
    " advanced_at next_due_at",
    "api_key": "id account_id key_id env name key_hash pepper_version last4 scopes created_at"
    " last_used_at",
    "credit_grant": "id seq account_id source ref parent_id generation amount remaining held"
    " priority period_start effective_at expires_at activated_at closed_at closed_reason actor"
    " reason created_at",
    "ledger_txn": "id account_id account_seq op ref actor reason reverses effective_at created_at"
    " prev_hash hash",
    "ledger_entry": "txn_id line bucket grant_id amount balance_after",
    "hold": "job_id account_id api_key_id amount state txn_id placed_at settled_at",
    "hold_slice": "job_id line grant_id amount",
    "job": "id account_id api_key_id request_id dialect env queue_class is_async webhook_url state"
    " lease_until deadline_at created_at started_at finished_at available_at model_asked options"
    " source_key source_bytes price_credits charged_credits model_ran result_key result_bytes"
    " result_ttl result_expires_at purged_at is_tidy extension media_type width_px height_px"
    " confidence refinement stages_ms error_code",
    "webhook_delivery": "id account_id job_id kind url facts state attempt tries next_attempt_at"
    " pending_since created_at finished_at",
    "webhook_attempt": "delivery_id number at ms status outcome",
    "account_note": "id account_id at actor body",
    "audit_event": "seq at actor action object account_id reason before after prev_hash hash",
}


class Tables:
    """Collects rows; iterating gives each table with its columns and rows."""

    def __init__(self, plan_ids: Mapping[str, UUID]) -> None:
        self._plan_ids = plan_ids
        self._rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
        self.audit_head: tuple[int, bytes] = (0, b"")
        self.last_of: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[str, list[str], list[Row]]]:
        for name, rows in self._rows.items():
            yield name, COLUMNS[name].split(), rows

    def add_all(self, lives: list[Life]) -> None:
        """Number what is numbered in the order of time, as it would have been, then make rows."""
        txns = sorted((txn for life in lives for txn in life.books.txns), key=lambda txn: txn.at)
        for number, txn in enumerate(txns, 1):
            txn.id = number
        for life in lives:
            self._add_account(life)
            self._add_books(life.books)
            for call in life.calls:
                self._add_call(life, call)
            for at, actor, body in life.notes:
                self._add("account_note", _uuid(life.rng), life.id, at, actor, body)
        for txn in txns:
            self._add_entries(txn)
        # Blocks of a table are in the order of writing, and that is the order of time.
        for table, moment in (("ledger_txn", 9), ("hold", 6), ("job", 12)):
            self._rows[table].sort(key=itemgetter(moment))
        self._add_grants(lives)
        self._add_acts(lives)
        self.last_of["ledger_txn"] = len(txns)

    def _add(self, table: str, *row: Any) -> None:
        self._rows[table].append(row)

    def _add_account(self, life: Life) -> None:
        books, rng = life.books, life.rng
        period = books.periods[-1]
        self._add("account", life.id, life.name, life.status, life.opened_at)
        plan_id = self._plan_ids[books.plan]
        ended_at = books.now if books.is_closed else None
        span = (life.opened_at, period.start, period.end, ended_at)
        self._add("subscription", _uuid(rng), life.id, plan_id, None, *span)
        for period in books.periods:
            plan_id = self._plan_ids[period.plan]
            numbers = (period.rolled_in, period.rollover_cap, period.consumed_before)
            ends = (period.start, period.end, plan_id, *numbers, period.closed_at)
            self._add("billing_period", life.id, *ends)
        for key in life.keys:
            secret = (rng.randbytes(32), 1, "".join(rng.choices("0123456789abcdef", k=4)))
            times = (key.created_at, key.last_used_at)
            words = (key.key_id, key.env, key.name)
            self._add("api_key", key.id, life.id, *words, *secret, ["cutout", "read"], *times)

    def _add_books(self, books: Books) -> None:
        digest = b""
        for txn in books.txns:
            before, digest = digest, digest_of(txn, digest)
            reverses = txn.reverses.id if txn.reverses else None
            words = (txn.id, txn.account_id, txn.seq, txn.op, *txn.why)
            self._add("ledger_txn", *words, reverses, txn.at, txn.at, before, digest)
        balances = [books.balances[name] for name in ("available", "held", "consumed", "expired")]
        open_holds = sum(hold.state == "held" for hold in books.holds)
        moments = [hold.settled_at or hold.placed_at for hold in books.holds]
        head = (open_holds, len(books.txns), digest, max([books.now, *moments]), books.next_due_at)
        self._add("credit_account", books.account_id, *balances, *head)
        for hold in books.holds:
            txn_id = hold.txn.id if hold.txn else None
            ends = (hold.amount, hold.state, txn_id, hold.placed_at, hold.settled_at)
            self._add("hold", hold.job_id, books.account_id, hold.api_key_id, *ends)
            for line, (grant, part) in enumerate(hold.slices, 1):
                self._add("hold_slice", hold.job_id, line, grant.id, part)

    def _add_entries(self, txn: Txn) -> None:
        for line, ((bucket, grant, amount), balance) in enumerate(
            zip(txn.lines, txn.balances, strict=True), 1
        ):
            self._add("ledger_entry", txn.id, line, bucket, grant.id, amount, balance)

    def _add_grants(self, lives: Iterable[Life]) -> None:
        grants = [
            (grant.effective_at, life.opened_at, grant.order, life.id, grant)
            for life in lives
            for grant in (*life.books.grants, *life.books.closed_grants)
        ]
        grants.sort(key=lambda known: known[:3])
        for seq, (*_, account_id, grant) in enumerate(grants, 1):
            self._add("credit_grant", *_grant_row(seq, account_id, grant))
        self.last_of["credit_grant"] = len(grants)

    def _add_call(self, life: Life, call: Call) -> None:
        hold, key, rng = call.hold, call.key, life.rng
        state = call.ends
        if hold.state == "held":
            state = "queued" if call.ends == "queued" else "processing"
        is_good = state == "succeeded"
        plan = DEFAULT_PLANS[life.plan]
        began_at = None if state == "queued" else hold.placed_at + call.waited
        ended_at = hold.settled_at
        ttl = TTL[life.plan]
        expires_at = ended_at + ttl if is_good and ended_at else None
        purged_at = expires_at if expires_at and expires_at < life.until else None
        spent_ms = (call.took - call.waited).total_seconds() * 1000
        queue_class = "priority" if key.env == "enterprise" else plan[5]
        self._add(
            "job",
            *(hold.job_id, life.id, key.id, f"{rng.getrandbits(128):032x}"),
            *("revid" if call.is_async else "codia", key.env, queue_class, call.is_async),
            *(RECEIVER if call.is_told else None, state),
            life.until + timedelta(seconds=15) if state == "processing" else None,
            *(hold.placed_at + timedelta(minutes=10), hold.placed_at, began_at, ended_at),
            *(hold.placed_at, "auto", OPTIONS),
            f"sources/{hold.job_id}/source" if call.is_async else None,
            *(rng.randrange(50_000, 6_000_000), hold.amount, hold.amount if is_good else 0),
            "isnet-general-use" if is_good else None,
            f"results/{hold.job_id}/1.png" if is_good else None,
            rng.randrange(80_000, 3_000_000) if is_good else None,
            *(ttl, expires_at, purged_at, ended_at is not None),
            *(("png", "image/png") if is_good else (None, None)),
            *((rng.randrange(400, 4000), rng.randrange(400, 4000)) if is_good else (None, None)),
            round(rng.betavariate(8, 1), 3) if is_good else None,
            "closed_form" if is_good else None,
            json.dumps({stage: round(spent_ms / 7, 1) for stage in STAGES}) if is_good else "{}",
            call.failure if state == "failed" else None,
        )
        if call.is_told and ended_at is not None:
            self._add_delivery(life, call, state, ended_at)

    def _add_delivery(self, life: Life, call: Call, state: str, at: datetime) -> None:
        delivery_id, is_lost = _uuid(life.rng), life.rng.random() < 0.03
        tries = 8 if is_lost else 1
        facts = json.dumps({"job_id": str(call.hold.job_id), "state": state})
        told = "failed" if is_lost else "delivered"
        words = (f"cutout.{state}", RECEIVER, facts, told, tries, tries)
        times = (at, at, at, at + timedelta(days=is_lost, seconds=1))
        self._add("webhook_delivery", delivery_id, life.id, call.hold.job_id, *words, *times)
        for number in range(1, tries + 1):
            tried_at = at + timedelta(seconds=5 * 3**number)
            answer = (60, 503, "status") if is_lost else (60, 200, "delivered")
            self._add("webhook_attempt", delivery_id, number, tried_at, *answer)

    def _add_acts(self, lives: Iterable[Life]) -> None:
        acts = [(act, life.id) for life in lives for act in life.acts]
        acts.sort(key=lambda known: known[0].at)
        for seq, (act, account_id) in enumerate(acts, 1):
            event = _event(seq, act, account_id, self.audit_head[1])
            self.audit_head = seq, event.hash
            before, after = (
                json.dumps(facts) if facts else None for facts in (act.before, act.after)
            )
            words = (act.actor, act.action, act.object_name, account_id, act.reason)
            self._add(
                "audit_event", seq, event.at, *words, before, after, event.prev_hash, event.hash
            )


def _grant_row(seq: int, account_id: UUID, grant: Grant) -> Row:
    return (
        *(grant.id, seq, account_id, grant.source, grant.why.ref),
        *(grant.parent.id if grant.parent else None, grant.generation),
        *(grant.amount, grant.remaining, grant.held, PRIORITIES[grant.source]),
        *(grant.period_start, grant.effective_at, grant.expires_at, grant.effective_at),
        *(grant.closed_at, grant.closed_reason, grant.why.actor, grant.why.reason),
        grant.effective_at,
    )


def _event(seq: int, act: Act, account_id: UUID, before: bytes) -> AuditEvent:
    event = AuditEvent(
        seq=seq,
        at=act.at.astimezone(UTC),
        actor=act.actor,
        action=act.action,
        object=act.object_name,
        account_id=account_id,
        reason=act.reason,
        before=act.before,
        after=act.after,
        prev_hash=before,
    )
    event.hash = audit.digest_of(event)
    return event


def _uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
