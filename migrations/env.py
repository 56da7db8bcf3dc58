"""Alembic's own entry: it runs the migrations on the connection that migrations/run.py opened."""

from alembic import context

import billing.tables
from billing.db import Base

_ = billing.tables  # its tables are in Base.metadata once it is imported

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
