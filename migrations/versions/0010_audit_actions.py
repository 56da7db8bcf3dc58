"""The audit page's list of acts is read from an index, and an act's events are found by it.

Additive: one more index that only acts of people write to, a few a day. It is built under a lock
that stops acts, not calls, for a second at a million events; a far larger trail builds it by hand
beforehand, CONCURRENTLY and under this name, and then it is passed by; one that did not become
valid is refused.
"""

from alembic import op

from migrations.run import refuse_broken_indexes

revision = "0010"
down_revision = "0009"

NAME = "ix_audit_event_action_seq"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    refuse_broken_indexes(op.get_bind(), NAME)
    op.create_index(NAME, "audit_event", ["action", "seq"], if_not_exists=True)


def downgrade() -> None:
    op.drop_index(NAME, "audit_event")
