"""Failed jobs are found by their error: the dashboard's list asks for one of a year's at once.

Additive. Partial: jobs that succeed, nearly all, write nothing to it. It is built under a lock that
stops writing, a second at a million jobs; a far larger database builds it by hand beforehand,
CONCURRENTLY and under this name, and then it is passed by; one that did not become valid is
refused.
"""

import sqlalchemy as sa
from alembic import op

from migrations.run import refuse_broken_indexes

revision = "0009"
down_revision = "0008"

NAME = "ix_job_error_code_created_at"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    refuse_broken_indexes(op.get_bind(), NAME)
    op.create_index(
        NAME,
        "job",
        ["error_code", "created_at"],
        postgresql_where=sa.text("state = 'failed'"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(NAME, "job")
