"""People sign in: attempts are counted, one-time codes are optional, accounts have notes.

Additive, and safe while the code before it runs: it knows no sign-in and no note. Sessions hold no
secret and live for hours, so those that stand (none, before this) would only have to be renewed.
A console session belongs to a key and ends with it.
"""

from pathlib import Path

from alembic import op

from migrations.run import execute_script

revision = "0005"
down_revision = "0004"

SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    execute_script(op.get_bind(), (SQL / "0005_faces.sql").read_text("utf-8"))


def downgrade() -> None:
    for table in ("account_note", "console_session", "sign_in_attempt"):
        op.drop_table(table)
    for column in ("totp_version", "totp_last_step", "is_totp_on"):
        op.drop_column("admin_user", column)
