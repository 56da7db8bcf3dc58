"""Events are told by webhook: what an account has set, deliveries, and each attempt at one.

Additive, and safe while the code before it runs: that code ends jobs without writing a delivery,
so nothing is told of them. The index of what is due holds pending deliveries only, so those that
have ended cost the poll nothing. A job has at most one delivery, which the database sees to.
"""

from pathlib import Path

from alembic import op

from migrations.run import execute_script

revision = "0004"
down_revision = "0003"

SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    execute_script(op.get_bind(), (SQL / "0004_webhooks.sql").read_text("utf-8"))


def downgrade() -> None:
    for table in ("webhook_attempt", "webhook_delivery", "webhook_endpoint"):
        op.drop_table(table)
