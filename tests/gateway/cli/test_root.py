"""`cutout` itself: quick to ask, whole to use."""

import subprocess
import sys

import pytest
from typer.main import get_command

from gateway.cli.root import COMMANDS, app

HEAVY = {"sqlalchemy", "onnxruntime", "litestar", "cv2", "numpy", "alembic", "httpx"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, gateway.cli.root as root\n"
        "try: root.get_command(root.app)(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in COMMANDS)
    assert not HEAVY & set(eval(done.stderr))  # noqa: S307 - a list that we printed


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_can_be_asked_for_help(command: str) -> None:
    with pytest.raises(SystemExit) as end:
        get_command(app)([command, "--help"])
    assert end.value.code == 0


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(SystemExit) as end:
        get_command(app)(["no-such-command"])
    assert end.value.code == 2
