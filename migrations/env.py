"""Alembic's own entry: it runs the migrations on the connection that migrations/run.py opened."""

from alembic import context

import billing.staff_tables
import billing.tables
import gateway.tables
from billing.db import Base

# Their tables are in Base.metadata once they are imported.
_ = billing.tables, billing.staff_tables, gateway.tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
