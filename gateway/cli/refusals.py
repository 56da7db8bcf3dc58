"""Why a command cannot begin, in one sentence, where a trace would be all that it could say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from gateway.cli.marks import say_failed
from gateway.embedded.services import is_locked
from gateway.settings import Settings, is_from_environment, read_settings
from gateway.transactions import is_away

EXIT_NOT_BEGUN: Final = 2


def settings_or_exit(file: Path | None = None) -> Settings:
    """Read the settings; what is missing or wrong ends the command, and no value is repeated."""
    try:
        return read_settings(file)
    except (ValidationError, SettingsError) as exc:
        refuse(f"{_wrong(exc)} (docs/settings.md)", exc)


def settings_for(data_dir: Path) -> Settings:
    """Read the environment, then what `cutout up` noted; end the command if that is not enough."""
    file = data_dir / "up.env"
    if file.exists():
        return settings_or_exit(file)
    try:
        return read_settings()
    except (ValidationError, SettingsError) as exc:
        refuse(
            f"no stack has run in {data_dir.absolute()}: `cutout up` starts one, --data-dir names "
            f"another's folder; without one, {_wrong(exc)} (docs/settings.md)",
            exc,
        )


@contextmanager
def reaching_database(data_dir: Path, settings: Settings) -> Iterator[None]:
    """End the command with a sentence where the database does not answer."""
    try:
        yield
    except Exception as exc:
        if not is_away(exc):
            raise
        is_stacks = not is_from_environment("database_url")
        if is_stacks and not is_locked(data_dir):
            start = "make up" if data_dir == Path(".cutout") else f"cutout up --data-dir {data_dir}"
            refuse(f"the stack of {data_dir} is not running: `{start}`", exc)
        host = settings.database_url.hosts()[0]
        refuse(f"no database answers at {host['host']}:{host['port'] or 5432}", exc)


def refuse(why: str, cause: Exception | None = None) -> NoReturn:
    say_failed(Console(stderr=True), why)
    raise typer.Exit(EXIT_NOT_BEGUN) from cause


def _wrong(exc: ValidationError | SettingsError) -> str:
    """Say which settings are missing or wrong, without their values: some are secrets."""
    if isinstance(exc, SettingsError):
        return str(exc)
    errors = exc.errors(include_input=False, include_url=False)
    named = [
        ("CUTOUT_" + str(error["loc"][0]).upper() if error["loc"] else "", error)
        for error in errors
    ]
    missing = [name for name, error in named if error["type"] == "missing"]
    wrong = [
        f"{name}: {error['msg']}".removeprefix(": ").replace("Value error, ", "")
        for name, error in named
        if error["type"] != "missing"
    ]
    return "; ".join([f"set {', '.join(missing)}"] * bool(missing) + wrong)
