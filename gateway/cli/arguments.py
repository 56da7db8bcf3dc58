"""What several administrative commands are told: whose account, and why."""

from typing import Annotated
from uuid import UUID

import typer


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why: it stays in the audit trail")
    return reason.strip()


AccountId = Annotated[UUID, typer.Argument(metavar="ACCOUNT")]
Reason = Annotated[
    str, typer.Option(help="For the audit trail; asked for.", prompt=True, callback=_said)
]
