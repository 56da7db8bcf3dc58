"""`cutout remove`: photographs in, cutouts out, nothing overwritten."""

import io
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from gateway.cli.remove import app, write_beside

runner = CliRunner()


@pytest.fixture(autouse=True)
def no_pulled_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use the weights that ship with the project, whatever this machine has pulled."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "no-weights"))


def test_photographs_of_the_same_name_are_both_kept(tmp_path: Path, astronaut: bytes) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(astronaut)
    out = tmp_path / "out"

    done = runner.invoke(
        app, [str(tmp_path / "a" / "x.jpg"), str(tmp_path / "b" / "x.jpg"), "-o", str(out)]
    )

    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"x.png", "x-2.png"}
    for path in out.iterdir():
        with Image.open(path) as cutout:
            assert cutout.size == (512, 512)
            assert cutout.mode == "RGBA"
            assert cutout.getchannel("A").getextrema() == (0, 255)


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, astronaut: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    (tmp_path / "photo.png").write_bytes(b"mine")

    done = runner.invoke(app, [str(tmp_path / "photo.jpg"), "-o", str(tmp_path)])

    assert done.exit_code == 0
    assert (tmp_path / "photo.png").read_bytes() == b"mine"
    assert (tmp_path / "photo-2.png").exists()


def test_one_that_fails_does_not_stop_the_others_and_the_exit_code_tells(
    tmp_path: Path, astronaut: bytes
) -> None:
    (tmp_path / "broken[1].jpg").write_bytes(b"not a picture")
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    out = tmp_path / "out"
    photos = [str(tmp_path / name) for name in ("broken[1].jpg", "missing.jpg", "photo.jpg")]

    done = runner.invoke(app, [*photos, "-o", str(out)])

    assert done.exit_code == 1
    assert [path.name for path in out.iterdir()] == ["photo.png"]
    assert "broken[1].jpg" in done.output
    assert "missing.jpg: No such file" in done.output.replace("\n", "")
    assert "2 of 3 could not be cut out" in done.output


@pytest.mark.parametrize("model", ["no-such-model", "u2net"])
def test_weights_that_cannot_run_are_refused_before_anything_is_written(
    tmp_path: Path, astronaut: bytes, model: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    out = tmp_path / "out"

    done = runner.invoke(app, [str(tmp_path / "photo.jpg"), "-o", str(out), "--model", model])

    assert done.exit_code == 2
    assert "cutout models list" in done.output
    assert not out.exists()


def test_real_weights_are_used_when_named(
    tmp_path: Path, astronaut: bytes, shared_dir: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    options = ["--model", "u2netp", "--weights-dir", str(shared_dir / "models")]

    done = runner.invoke(app, [str(tmp_path / "photo.jpg"), "-o", str(tmp_path), *options])

    assert done.exit_code == 0, done.output
    with Image.open(io.BytesIO((tmp_path / "photo.png").read_bytes())) as cutout:
        alpha = cutout.getchannel("A")
    assert alpha.getpixel((220, 120)) == 255  # the face
    assert alpha.getpixel((330, 60)) == 0  # the wall


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_beside(tmp_path, "photo", "png", None)  # type: ignore[arg-type]  # what is tested
    assert not list(tmp_path.iterdir())
