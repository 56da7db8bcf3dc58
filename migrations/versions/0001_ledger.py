"""The ledger, the keys and the audit trail.

The first migration: nothing is there before it. It is written as SQL, since most of what it says
(triggers, functions, rights) is SQL's to say. The tables of the whole billing design are made at
once, those that later work fills included, because a ledger's columns are the hardest to change
under traffic.
"""

from pathlib import Path

from alembic import op

from migrations.run import execute_script

revision = "0001"
down_revision = None

SQL = Path(__file__).parents[1] / "sql"
TABLES = (
    "invariant_run audit_event audit_head admin_session admin_user key_budget hold_slice hold"
    " ledger_entry ledger_txn credit_grant credit_account billing_period subscription api_key"
    " account plan_version plan"
)
FUNCTIONS = "capture_hold place_hold ledger_post ledger_hash check_txn_sums_to_zero refuse_change"


def upgrade() -> None:
    for part in ("tables", "functions", "rights"):
        execute_script(op.get_bind(), (SQL / f"0001_{part}.sql").read_text("utf-8"))
    op.execute("INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, '')")


def downgrade() -> None:
    for table in TABLES.split():
        op.execute(f"DROP TABLE {table} CASCADE")
    for function in FUNCTIONS.split():
        op.execute(f"DROP FUNCTION {function}")
    for kind in ("hold_outcome", "grant_source", "grant_end", "hold_state", "ledger_op", "bucket"):
        op.execute(f"DROP TYPE {kind}")
