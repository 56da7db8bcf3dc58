"""What to type for what is missing here: by make in the project's own folder, elsewhere without."""

import sys
from pathlib import Path
from shutil import which
from typing import Final

PROJECT: Final = Path(__file__).parents[2]


def weights_command(name: str) -> str:
    """Give the command that downloads the weights `name`, as it works from where one is."""
    if _is_in_checkout():
        return f"make weights MODEL={name}"
    return f"{_program()} models pull {name}"


def services_command() -> str:
    """Give the command that installs the embedded services."""
    return "make up" if _is_in_checkout() else "pip install 'cutout-gateway[embedded]'"


def _program() -> str:
    """Name this very program: what the shell calls `cutout` may be another environment's."""
    own = Path(sys.executable).with_name("cutout")
    if not own.exists():  # pip put it elsewhere, as `--user` does
        return f"{sys.executable} -m gateway.cli"
    found = which("cutout")
    is_own = found is not None and Path(found).resolve() == own.resolve()
    return "cutout" if is_own else str(own)


def _is_in_checkout() -> bool:
    makefile = PROJECT / "Makefile"
    return makefile.is_file() and Path.cwd() == PROJECT
