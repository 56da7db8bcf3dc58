"""The dashboard: what a person did is done once, refusals are counted, and lists have indexes.

Additive, and safe while the code before it runs. The indexes cover the overview's columns, so that
90 days of a million entries are read without their rows; the two on the hot tables (hold, job) cost
an end of a job one entry each, which is 3 % of the WAL of a hold and its capture. They are built
under a lock that stops writing: at a million rows about a second each; a far larger database builds
them by hand beforehand, CONCURRENTLY and under these names, and then they are passed by; one that
did not become valid is refused.
"""

from pathlib import Path

from alembic import op

from migrations.run import execute_script, refuse_broken_indexes

revision = "0007"
down_revision = "0006"

SQL = Path(__file__).parents[1] / "sql"
INDEXES = (
    "ix_hold_settled_at ix_credit_grant_activated_at ix_ledger_entry_ended ix_job_created_at"
    " ix_job_account_id_created_at ix_job_finished_at"
)


def upgrade() -> None:
    refuse_broken_indexes(op.get_bind(), *INDEXES.split())
    execute_script(op.get_bind(), (SQL / "0007_dashboard.sql").read_text("utf-8"))


def downgrade() -> None:
    for index in INDEXES.split():
        op.execute(f"DROP INDEX {index}")
    for table in ("refusal_count", "admin_act"):
        op.drop_table(table)
