"""`cutout db`: migrations."""

import typer

from gateway.cli.database import DATA_DIR, DataDir, screen
from gateway.cli.refusals import reaching_database, refuse, settings_for
from migrations.run import BrokenIndexError, upgrade

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Migrate the database."""


@app.command()
def migrate(data_dir: DataDir = DATA_DIR) -> None:
    """Bring the database up to date; nothing happens if it is."""
    settings = settings_for(data_dir)
    with reaching_database(data_dir, settings):
        try:
            upgrade(str(settings.database_owner_url or settings.database_url))
        except BrokenIndexError as exc:
            refuse(str(exc), exc)
    screen.print("The database is up to date.")
