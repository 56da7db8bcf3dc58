"""`cutout`: which commands there are, and where each is.

A command's module is imported when the command is called, not for `cutout --help`: SQLAlchemy,
onnxruntime and OpenCV together take longer to import than most commands take to run.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

COMMANDS: Final = {
    "up": "Run the whole stack on this machine until Ctrl-C",
    "demo": "Cut real photographs out through both dialects, and show the bill",
    "remove": "Cut photographs out here: no server, no account",
    "gateway": "Serve the API (settings: CUTOUT_…)",
    "worker": "Work on queued jobs (settings: CUTOUT_…)",
    "models": "List, download and verify weights",
    "db": "Migrate the database",
    "account": "Create and list accounts; plans, credits, corrections, statements",
    "key": "Create, rotate and revoke API keys",
    "webhook": "Webhook secrets and alerts; deliveries, and replaying them",
    "admin": "Say who may sign in to the dashboard",
    "billing": "Check the books; a month of every account as CSV",
    "audit": "Verify the audit trail",
    "doctor": "Say what is missing on this machine",
}
"""Name and summary; the module is `gateway.cli.<name>` and its Typer application is `app`."""


class LazyGroup(TyperGroup):
    """Lists commands from the table above and imports one when it is called."""

    def list_commands(self, _: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: Any, cmd_name: str) -> Any:
        """Give a stand-in with the summary: enough for help."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Give the real command: it is about to be called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, get_command(import_module(f"gateway.cli.{name}").app), rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False)


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 - an option's callback
    if is_asked:
        typer.echo(f"cutout-gateway {version('cutout-gateway')}")
        raise typer.Exit


@app.callback()
def about(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which, and end.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Background removal that is charged once: server, local tool and bookkeeping."""


def main() -> None:
    """Run the command line."""
    get_command(app)(prog_name="cutout")
