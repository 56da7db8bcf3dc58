"""Forty faults, put into a copy of the ledger and the gateway one at a time: the tests find each.

    python -m bench.proofs.mutants [--only NAME]

A mutant is killed when the tests of its room (`pytest tests/billing`, of a gateway's mutant those
that it names) fail on the copy. One that survives is a hole in the tests, and this command then
exits with 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("billing", "gateway", "core", "migrations", "tests", "pyproject.toml")
FUNCTIONS: Final = "migrations/sql/0001_functions.sql"
HOT_PATH: Final = "migrations/sql/0006_hot_path.sql"
DEADLINE_S: Final = 600
SLOW: Final = frozenset({"test_machine.py"})
"""Run last: most mutants are found sooner by a test that says what is wrong."""


class Mutant(NamedTuple):
    """One fault: in `path`, `old` becomes `new`."""

    name: str
    path: str
    old: str
    new: str
    tests: str = "tests/billing/test_*.py"


MUTANTS: Final = (
    Mutant("capture: drop the state guard", HOT_PATH,
           "IF NOT FOUND OR placed.state <> 'held' THEN", "IF NOT FOUND THEN"),
    Mutant("capture: take from available, not from held", HOT_PATH,
           "froms := froms || 'held'::text;", "froms := froms || 'available'::text;"),
    Mutant("capture: leave the job counted as open", HOT_PATH,
           "open_holds = books.open_holds - 1,", "open_holds = books.open_holds,"),
    Mutant("capture: of two slices of one grant only one", HOT_PATH,
           "sum(amount) AS amount", "max(amount) AS amount"),
    Mutant("capture: whoever's grant it is", HOT_PATH,
           "WHERE g.id = named.grant_id AND g.account_id = placed.account_id",
           "WHERE g.id = named.grant_id"),
    Mutant("hold: the last credit cannot be spent", HOT_PATH,
           "books.credit_limit < p_amount", "books.credit_limit <= p_amount"),
    Mutant("hold: one credit too many", HOT_PATH,
           "books.credit_limit < p_amount", "books.credit_limit + 1 < p_amount"),
    Mutant("hold: one job too many at once", HOT_PATH,
           "books.open_holds >= p_concurrency_max", "books.open_holds > p_concurrency_max"),
    Mutant("hold: suspended accounts may begin", HOT_PATH,
           "WHEN account_status <> 'active' THEN account_status", ""),
    Mutant("hold: no mutex", HOT_PATH,
           "SELECT * INTO books FROM credit_account WHERE account_id = p_account FOR UPDATE;",
           "SELECT * INTO books FROM credit_account WHERE account_id = p_account;"),
    Mutant("hold: expired at its instant is still good", HOT_PATH,
           "WHEN books.next_due_at <= moment THEN 'due'",
           "WHEN books.next_due_at < moment THEN 'due'"),
    Mutant("hold: budget of the key ignored", HOT_PATH,
           "IF budget_left < p_amount THEN", "IF budget_left < 0 THEN"),
    Mutant("burn-down: expiry before priority", HOT_PATH,
           "ORDER BY priority, expires_at NULLS LAST,",
           "ORDER BY expires_at NULLS LAST, priority,"),
    Mutant("burn-down: what never expires goes first", HOT_PATH,
           "expires_at NULLS LAST", "expires_at NULLS FIRST"),
    Mutant("burn-down: newest first", HOT_PATH, "effective_at, credit_grant.seq",
           "effective_at DESC, credit_grant.seq"),
    Mutant("burn-down: the pure one swaps its keys", "billing/burndown.py",
           "return grant.priority, grant.expires_at or NEVER,",
           "return grant.expires_at or NEVER, grant.priority,"),
    Mutant("chain: amounts are not hashed", FUNCTIONS,
           "p_buckets, p_grants, p_amounts\n    )::text", "p_buckets, p_grants\n    )::text"),
    Mutant("entries: sums are not checked", HOT_PATH,
           "HAVING sum(amount) <> 0", "HAVING sum(amount) IS NULL"),
    Mutant("begin: in whatever order the table has", "billing/posting.py",
           "            .order_by(\n                CreditGrant.priority,\n"
           "                CreditGrant.expires_at.nulls_last(),\n"
           "                CreditGrant.effective_at,\n                CreditGrant.seq,\n"
           "            )\n", ""),
    Mutant("advance: wait one instant longer", "billing/periods.py",
           "books.next_due_at > moment", "books.next_due_at >= moment"),
    Mutant("close: no cap", "billing/periods.py",
           "over = max(0, sum(grant.remaining for grant in grants) - cap)", "over = 0"),
    Mutant("close: trim the newest first", "billing/periods.py",
           "key=lambda grant: (grant.expires_at or NEVER, grant.seq))",
           "key=lambda grant: (grant.expires_at or NEVER, grant.seq), reverse=True)"),
    Mutant("close: top-ups roll too", "billing/periods.py",
           'frozenset({"plan", "rollover"})', 'frozenset({"plan", "rollover", "topup"})'),
    Mutant("close: carried credits live for ever", "billing/periods.py",
           "expires_at=grant.expires_at,", "expires_at=None,"),
    Mutant("close: generations are not counted", "billing/periods.py",
           "generation=grant.generation + generations,", "generation=grant.generation,"),
    Mutant("expire: what is left vanishes from the books", "billing/periods.py",
           'move("available", "expired", grant.id, grant.remaining)',
           'move("available", "issued", grant.id, grant.remaining)'),
    Mutant("anchors: months drift", "billing/anchors.py",
           "return boundary(anchor_at, months_since(anchor_at, at) + months)",
           "return boundary(at, months)"),
    Mutant("release: back to a closed grant", "billing/releases.py",
           "elif grant.closed_at is None:", "elif grant.closed_reason != 'voided':"),
    Mutant("release: caps ignored", "billing/releases.py",
           "carried = min(amount, *(period.rollover_cap - period.rolled_in for period in later))",
           "carried = amount"),
    Mutant("release: budget is not given back", "billing/ledger.py",
           "await _give_budget_back(db, hold)", "pass"),
    Mutant("refund: of what was never charged", "billing/credits.py",
           'hold.state != "captured" or hold.txn_id is None', "hold.txn_id is None"),
    Mutant("refund: expires with what it refunds", "billing/credits.py",
           "max([moment + REFUND_LIFE_MIN, *(", "max([moment, *("),
    Mutant("post: duplicates are not looked for", "billing/posting.py",
           "if await posted(db, account_id, op, ref) is not None:", "if False:"),
    Mutant("limit: nothing is paid back", "billing/grants.py",
           "if overdrawn <= 0:", "if overdrawn:"),
    Mutant("upgrade: prorated for what is past", "billing/subscriptions.py",
           "left = subscription.period_end - moment",
           "left = moment - subscription.period_start"),
    Mutant("downgrade: at once", "billing/subscriptions.py",
           "target.monthly_credits > now_on.monthly_credits",
           "target.monthly_credits != now_on.monthly_credits"),
    Mutant("keys: the secret is not compared", "billing/keys.py",
           "if digest is None or not hmac.compare_digest(digest, key.key_hash):",
           "if digest is None:"),
    Mutant("keys: revocation is not looked at", "billing/keys.py",
           "(key.revoked_at, key.expires_at, key.grace_until)",
           "(key.expires_at, key.grace_until)"),
    Mutant("statement: what happened at the very time is before it", "billing/sequence.py",
           "CASE WHEN t.effective_at < :moment THEN t.account_seq",
           "CASE WHEN t.effective_at <= :moment THEN t.account_seq"),
    Mutant("settle: drop the fence", "gateway/jobs.py",
           "Job.id == fence.job_id, Job.attempt == fence.attempt, Job.state.in_(states)",
           "Job.id == fence.job_id, Job.state.in_(states)", "tests/gateway/test_jobs.py"),
    Mutant("settle: a job may end twice", "gateway/jobs.py",
           "Job.id == fence.job_id, Job.attempt == fence.attempt, Job.state.in_(states)",
           "Job.id == fence.job_id, Job.attempt == fence.attempt", "tests/gateway/test_jobs.py"),
    Mutant("settle: the hold of a failed job stays", "gateway/settle.py",
           "await ledger.release(db, job.id, reason=reason)", "pass", "tests/gateway/test_s*.py"),
    Mutant("sweep: a lease that is not over", "gateway/sweep.py",
           "Job.lease_until < func.now(),", "Job.lease_until > func.now(),",
           "tests/gateway/test_sweep.py"),
    Mutant("accept: a repeated request is a new job", "gateway/idempotency.py",
           "return None if earlier == job_id else earlier", "return None",
           "tests/gateway/test_[is]*.py"),
)  # fmt: skip


def is_killed(mutant: Mutant) -> tuple[bool, str]:
    """Run the tests on a copy with the fault in it; tell whether one failed, and which first."""
    with tempfile.TemporaryDirectory(prefix="cutout-mutant-") as folder:
        copy = Path(folder)
        copy.chmod(0o711)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, copy / name)
        target = copy / mutant.path
        source = target.read_text("utf-8")
        if mutant.old not in source:
            raise SystemExit(f"{mutant.name}: {mutant.path} has changed; mend the mutant")
        target.write_text(source.replace(mutant.old, mutant.new), "utf-8")
        tests = sorted(copy.glob(mutant.tests), key=lambda path: path.name in SLOW)
        command = [sys.executable, "-m", "pytest", *map(str, tests), "-x", "-q", "--no-header"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    killers = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1, killers[0].split(" - ")[0] if killers else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name holds this")
    parser.add_argument("--skip", type=int, default=0, help="the first so many")
    asked = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS[asked.skip :] if asked.only in mutant.name]
    survivors, started = [], time.monotonic()
    for mutant in chosen:
        killed, by = is_killed(mutant)
        print(f"mutant: {'killed' if killed else 'SURVIVED'}: {mutant.name}: {by}", flush=True)
        if not killed:
            survivors.append(mutant.name)
    took_s = time.monotonic() - started
    print(f"mutants: {len(chosen) - len(survivors)} of {len(chosen)} killed, {took_s:.0f} s")
    if survivors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
