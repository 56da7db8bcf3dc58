"""What is old goes: told webhooks whole, of jobs what only their making needed (ADR 18).

Additive, and safe while the code before it runs, which forgets nothing. The application may now
delete deliveries and their attempts; the first sweeps after it do, 200 at a time. Jobs that stand
are looked through in the same way, once. The indexes are built under a lock that stops writing, at
a million rows about a second each.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

IN_FULL = "is_tidy AND NOT is_brief AND (state <> 'succeeded' OR purged_at IS NOT NULL)"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")  # fail the deploy rather than stall traffic
    op.add_column(
        "job", sa.Column("is_brief", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.create_index(
        "ix_job_in_full",
        "job",
        ["finished_at"],
        postgresql_where=sa.text(IN_FULL),
    )
    op.create_index(
        "ix_webhook_delivery_finished_at",
        "webhook_delivery",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index("ix_webhook_attempt_at", "webhook_attempt", ["at"])
    op.execute("GRANT DELETE ON webhook_delivery, webhook_attempt TO cutout_app")


def downgrade() -> None:
    op.execute("REVOKE DELETE ON webhook_delivery, webhook_attempt FROM cutout_app")
    op.drop_index("ix_webhook_attempt_at", "webhook_attempt")
    op.drop_index("ix_webhook_delivery_finished_at", "webhook_delivery")
    op.drop_index("ix_job_in_full", "job")
    op.drop_column("job", "is_brief")
