"""`cutout remove`: photographs in, cutouts out, nothing overwritten."""

import io
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from gateway.cli.remove import app, write_new

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
    (tmp_path / "broken[1].jpg").write_bytes(astronaut[: len(astronaut) // 2])
    (tmp_path / "folder").mkdir()
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    out = tmp_path / "out"
    photos = [
        str(tmp_path / name) for name in ("broken[1].jpg", "missing.jpg", "folder", "photo.jpg")
    ]

    done = runner.invoke(app, [*photos, "-o", str(out)])

    assert done.exit_code == 1
    assert [path.name for path in out.iterdir()] == ["photo.png"]
    assert "broken[1].jpg: the file is cut short or broken" in done.output
    assert f"Is a directory; its photographs are {tmp_path / 'folder'}/*" in done.output
    assert "cutout-lite, confidence " in done.output
    assert "missing.jpg: No such file" in done.output.replace("\n", "")
    assert "3 of 4 could not be cut out" in done.output


@pytest.mark.parametrize(
    ("model", "way"),
    [("no-such-model", "cutout models list"), ("u2net", "make weights MODEL=u2net")],
)
def test_weights_that_cannot_run_are_refused_before_anything_is_written(
    tmp_path: Path, astronaut: bytes, model: str, way: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    out = tmp_path / "out"

    done = runner.invoke(app, [str(tmp_path / "photo.jpg"), "-o", str(out), "--model", model])

    assert done.exit_code == 2
    assert way in done.output
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


def test_one_photograph_may_be_given_the_name_of_its_cutout(
    tmp_path: Path, astronaut: bytes
) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    target = tmp_path / "new" / "cutout.webp"

    done = runner.invoke(app, [str(tmp_path / "photo.jpg"), "-o", str(target)])

    assert done.exit_code == 0, done.output
    with Image.open(target) as cutout:
        assert (cutout.format, cutout.mode) == ("WEBP", "RGBA")


@pytest.mark.parametrize(
    ("name", "photos", "why"),
    [
        ("there", 1, "is there already, and nothing is overwritten"),
        ("there.png", 1, "is there already, and nothing is overwritten"),
        ("cutout.png", 2, "is one name for 2 photographs: name a folder"),
        ("cutout.jpg", 1, "a cutout is transparent, which .png and .webp can be"),
        ("there.png/out", 1, "Not a directory"),
    ],
)
def test_a_name_that_the_cutout_cannot_have_is_refused_in_one_line(
    tmp_path: Path, astronaut: bytes, name: str, photos: int, why: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(astronaut)
    for there in ("there", "there.png"):
        (tmp_path / there).write_bytes(b"mine")

    done = runner.invoke(app, [str(tmp_path / "photo.jpg")] * photos + ["-o", str(tmp_path / name)])

    assert done.exit_code == 2
    assert why in done.output
    assert len(done.output.splitlines()) == 1
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photo.jpg", "there", "there.png"}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_new(tmp_path, iter([tmp_path / "photo.png"]), None)  # type: ignore[arg-type]  # what is tested
    assert not list(tmp_path.iterdir())
