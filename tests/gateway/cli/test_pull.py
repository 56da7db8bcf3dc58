"""`cutout models pull`: the right file is put there whole, and nothing else is ever put there."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import pytest
from typer.testing import CliRunner, Result

from core import WEIGHTS
from gateway.cli import advice, doctor, download, models, remove

runner = CliRunner()


class Release(ThreadingHTTPServer):
    """A place of releases on this machine: as at the real one, a file's address sends one on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.pause_s = 0.0
        """Between one byte and the next, where it is not 0."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/release"


class _Answer(BaseHTTPRequestHandler):
    server: Release

    def do_GET(self) -> None:
        _, place, name = self.path.split("/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
        elif place == "release":
            self.send_response(302)
            self.send_header("Location", f"/assets/{name}")
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            self._send(content)

    def _send(self, content: bytes) -> None:
        if not self.server.pause_s:
            self.wfile.write(content)
            return
        with suppress(ConnectionError):  # whoever asked has gone
            for byte in content:
                self.wfile.write(bytes([byte]))
                sleep(self.server.pause_s)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    with Release() as server:
        monkeypatch.setattr(download, "RELEASE", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.screen, "_width", 200)


def pull(name: str, folder: Path) -> Result:
    return runner.invoke(models.app, ["pull", name, "--weights-dir", str(folder)])


def test_pulled_weights_are_there_right_and_readable(
    release: Release, shared_dir: Path, tmp_path: Path
) -> None:
    right = (shared_dir / "models" / "u2netp.onnx").read_bytes()
    release.files["u2netp.onnx"] = right
    folder = tmp_path / "not" / "there" / "yet"

    done = pull("u2netp", folder)

    assert done.exit_code == 0, done.stdout
    assert "✓ u2netp" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["u2netp.onnx"]
    assert (folder / "u2netp.onnx").read_bytes() == right
    assert (folder / "u2netp.onnx").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>Please sign in</html>", "its checksum is another"),
        (bytes(2 * WEIGHTS["u2netp"].size_bytes + 1), "it is far larger"),
        (None, "the answer was 404"),
    ],
    ids=["another file", "too large", "none"],
)
def test_what_is_not_the_weights_is_not_kept_and_the_way_by_hand_is_told(
    release: Release, tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        release.files["u2netp.onnx"] = content

    done = pull("u2netp", tmp_path)

    assert done.exit_code == 1
    assert "✗ u2netp could not be downloaded: " in done.stdout
    assert why in done.stdout
    assert f"{release.url}/u2netp.onnx to {tmp_path / 'u2netp.onnx'}" in done.stdout
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_reason_is_a_sentence(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del release
    monkeypatch.setattr(download, "RELEASE", "http://127.0.0.1:1")
    done = pull("u2netp", tmp_path)
    assert done.exit_code == 1
    assert "u2netp could not be downloaded: " in done.stdout
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    "proxy",
    ["socks5://user:s3cret@127.0.0.1:1080", "gopher://user:s3cret@127.0.0.1", "http://[::1"],
    ids=["SOCKS", "no proxy's scheme", "no address"],
)
def test_a_proxy_that_cannot_be_used_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    done = pull("u2netp", tmp_path)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "could not be downloaded: the proxy of the environment cannot be used: " in done.stdout
    assert "s3cret" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_trickles_in_is_given_up(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE_S_MAX", 0.5)
    monkeypatch.setattr(download, "BYTES_PER_S_MIN", WEIGHTS["u2netp"].size_bytes)
    release.pause_s = 0.05  # never silent for half a second
    release.files["u2netp.onnx"] = bytes(100)

    done = pull("u2netp", tmp_path)

    assert done.exit_code == 1
    assert "u2netp could not be downloaded: it was not whole after 2 s" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(release: Release, tmp_path: Path) -> None:
    release.files["u2netp.onnx"] = b""
    (tmp_path / "file").touch()
    done = pull("u2netp", tmp_path / "file")
    assert done.exit_code == 1
    assert f"could not be downloaded: {tmp_path / 'file'}: File exists" in done.stdout


def test_in_the_projects_folder_make_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(advice.PROJECT)
    assert advice.weights_command("u2net") == "make weights MODEL=u2net"
    makefile = (advice.PROJECT / "Makefile").read_text()
    assert "\nweights: " in makefile


def test_elsewhere_the_command_is_named_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    program, *rest = advice.weights_command("u2net").split()
    assert rest == ["models", "pull", "u2net"]
    assert os.access(program, os.X_OK)
    assert Path(program).parent == Path(sys.executable).parent

    own = tmp_path / "cutout"
    own.symlink_to(program)
    assert advice.weights_command("u2net") == "cutout models pull u2net"

    own.unlink()
    shutil.copy(program, own)  # as another environment has one
    assert advice.weights_command("u2net") == f"{program} models pull u2net"


def test_where_the_program_is_elsewhere_the_interpreter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    expected = f"{tmp_path / 'python'} -m gateway.cli models pull u2net"
    assert advice.weights_command("u2net") == expected


def test_doctor_and_remove_name_it(
    tmp_path: Path, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(astronaut)
    looked = runner.invoke(doctor.app, ["--data-dir", str(tmp_path)])
    assert f"`{advice.weights_command('u2net')}` for more" in looked.stdout
    refused = runner.invoke(remove.app, ["photo.jpg", "-o", "out", "--model", "u2net"])
    assert refused.exit_code == 2
    assert f"`{advice.weights_command('u2net')}` does it" in refused.output


def test_missing_services_are_told_with_what_to_do_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    done = runner.invoke(doctor.app, ["--data-dir", str(tmp_path)])
    assert "`pip install 'cutout-gateway[embedded]'` does it" in done.stdout
