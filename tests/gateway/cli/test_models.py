"""`cutout models` and `cutout doctor`: what is here, and whether it is the right thing."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core import WEIGHTS
from gateway.cli import doctor, models

runner = CliRunner()


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.screen, "_width", 160)


def test_the_list_has_every_model_and_says_which_is_installed(tmp_path: Path) -> None:
    done = runner.invoke(models.app, ["list", "--weights-dir", str(tmp_path)])
    assert done.exit_code == 0
    for name in WEIGHTS:
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert ("ships with the project" in line) == (name == "cutout-lite")


def test_weights_that_are_not_theirs_are_told_from_those_that_are(
    tmp_path: Path, shared_dir: Path
) -> None:
    shutil.copy(shared_dir / "models" / "u2netp.onnx", tmp_path)
    here = ["--weights-dir", str(tmp_path)]
    assert runner.invoke(models.app, ["verify", *here]).exit_code == 0

    (tmp_path / "u2net.onnx").write_bytes(b"not weights")
    done = runner.invoke(models.app, ["verify", *here])

    assert done.exit_code == 1
    assert "✓ u2netp" in done.stdout
    assert "✗ u2net:" in done.stdout


def test_what_is_no_model_is_never_downloaded(tmp_path: Path) -> None:
    """Names that rembg knows and our table does not, or that lead out of the folder."""
    for name in ("atlascloud", "withoutbg", "u2net_custom", "../u2net"):
        done = runner.invoke(models.app, ["pull", name, "--weights-dir", str(tmp_path)])
        assert done.exit_code == 2
        assert "not a model" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_is_installed_is_not_downloaded_again(tmp_path: Path) -> None:
    done = runner.invoke(models.app, ["pull", "cutout-lite", "--weights-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert "✓ cutout-lite" in done.stdout


def test_a_machine_that_runs_these_tests_is_fit_for_up(tmp_path: Path) -> None:
    done = runner.invoke(doctor.app, ["--data-dir", str(tmp_path / "not" / "there")])
    assert done.exit_code == 0, done.stdout
    assert "✗" not in done.stdout


def test_missing_services_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    done = runner.invoke(doctor.app, ["--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "not installed: `make up` does it" in done.stdout
