"""Jobs, the bells still to be rung, idempotency records.

Additive: nothing that the ledger has is touched, and code that knows only the ledger keeps working.
A job shares its id with its hold; there is no foreign key between them, since the ledger does not
know what its credits are spent on. The partial indexes are those of the claim and of the sweeper
and hold only the rows that those look for, so that ended jobs cost them nothing.
"""

from pathlib import Path

from alembic import op

from migrations.run import execute_script

revision = "0002"
down_revision = "0001"

SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    execute_script(op.get_bind(), (SQL / "0002_jobs.sql").read_text("utf-8"))


def downgrade() -> None:
    for table in ("idempotency_record", "outbox", "job"):
        op.drop_table(table)
