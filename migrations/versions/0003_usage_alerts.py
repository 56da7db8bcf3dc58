"""Alerts at 50, 80 and 100 % of a period's credits, each told once.

Additive. Periods that are open now count what they consume from here on as if the account had
consumed nothing before the migration in this period: at worst an alert comes late, once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "billing_period",
        sa.Column("consumed_before", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.execute(
        "UPDATE billing_period p SET consumed_before = c.consumed FROM credit_account c"
        " WHERE c.account_id = p.account_id AND p.closed_at IS NULL"
    )
    op.create_table(
        "usage_alert",
        sa.Column("account_id", sa.Uuid(), sa.ForeignKey("account.id"), primary_key=True),
        sa.Column("period_start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("percent", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )
    op.execute("GRANT SELECT, INSERT ON usage_alert TO cutout_app")


def downgrade() -> None:
    op.drop_table("usage_alert")
    op.drop_column("billing_period", "consumed_before")
