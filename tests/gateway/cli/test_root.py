"""`cutout` itself: quick to ask, whole to use."""

import re
import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gateway.cli import up
from gateway.cli.root import COMMANDS, app

runner = CliRunner()
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


@pytest.mark.parametrize("command", ["gateway", "worker"])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", None, "✗ set CUTOUT_DATABASE_URL (docs/settings.md)"),
        ("KEY_PEPPERS", "s3cret", 'field "key_peppers"'),
        ("LINK_SECRET", "s3cret", "CUTOUT_LINK_SECRET: "),
        ("FETCH_ALLOW_LOOPBACK", "true", "fetch_allow_loopback is refused"),
    ],
)
def test_servers_say_in_one_line_which_setting_is_missing_or_wrong(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str | None, words: str
) -> None:
    good = {
        "DATABASE_URL": "postgresql://app:secret@127.0.0.1/cutout",
        "KEY_PEPPERS": '{"1": "pepper-of-the-tests-and-nobody-else"}',
        "LINK_SECRET": "link-secret-of-the-tests-and-nobody-else",
        "BIND_HOST": "192.0.2.1",
    }
    for known, text in (good | {name: value or ""}).items():
        monkeypatch.setenv(f"CUTOUT_{known}", text)
    if value is None:
        monkeypatch.delenv(f"CUTOUT_{name}")

    result = runner.invoke(import_module(f"gateway.cli.{command}").app, [])

    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.splitlines()) == 1
    assert "s3cret" not in result.output


def test_it_says_its_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"cutout-gateway \d+\.\d+\.\d+\S*\n", result.output)


def test_a_port_that_cannot_be_is_refused() -> None:
    result = runner.invoke(up.app, ["--port", "80000"])
    assert result.exit_code == 2
    assert "or equal to 65535" in result.output
