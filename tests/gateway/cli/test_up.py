"""`cutout up`: real processes, killed for real."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from tests.gateway.cli.stack import (
    COMMAND,
    Up,
    command_for,
    is_running,
    processes_naming,
    wait_until,
)

RESTART_DEADLINE_S = 60.0
ORDINARY_USER = "daemon"


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """Run one stack for this module's tests, in a folder that only we may enter."""
    with tempfile.TemporaryDirectory(prefix="cutout-up-") as folder:
        up = Up(Path(folder) / "data")
        up.start()
        yield up
        up.end_if_running()


def cut_out(up: Up, photo: bytes) -> httpx.Response:
    facts = up.facts
    return httpx.post(
        f"{facts['url']}/v1/open/remove_bg",
        headers={"Authorization": f"Bearer {facts['api_key']}"},
        files={"image": ("photo.jpg", photo)},
        timeout=60,
        trust_env=False,
    )


def account_of(up: Up) -> dict[str, Any]:
    facts = up.facts
    answer = httpx.get(
        f"{facts['url']}/v1/account",
        headers={"Authorization": f"Bearer {facts['api_key']}"},
        trust_env=False,
    )
    account: dict[str, Any] = answer.raise_for_status().json()
    return account


def balance(up: Up) -> int:
    return int(account_of(up)["credits"]["balance"])


def test_the_facts_are_true(up: Up) -> None:
    facts, account = up.facts, account_of(up)
    assert account["account_id"] == facts["account_id"]
    assert account["plan"] == "growth"
    assert account["credits"]["available"] == 50_000
    assert account["limits"]["rate_per_minute"] == 6_000
    # The file of facts is there before the page of them is printed.
    wait_until(lambda: "6,000 calls a minute" in up.log_path.read_text(), RESTART_DEADLINE_S)
    printed, port = up.log_path.read_text(), httpx.URL(facts["url"]).port
    assert (f"port 8000 is taken, using {port}" in printed) == (port != 8000)
    assert set(facts["pids"]) == {"up", "postgres", "valkey", "gateway", "worker"}
    assert all(is_running(pid) for pid in facts["pids"].values())
    with redis.Redis.from_url(facts["redis_url"]) as client:
        assert client.ping()


def test_the_page_works_at_once_on_a_key_of_its_own_that_nobody_sees(
    up: Up, astronaut: bytes
) -> None:
    with httpx.Client(base_url=up.facts["url"], trust_env=False, timeout=60) as browser:
        page = browser.get("/").text
        kept = json.loads((up.data_dir / "demo-account.json").read_text())
        assert "data-demo" in page
        assert kept["playground_key"] not in page
        assert kept["playground_key"] != kept["api_key"]
        sent = browser.post("/playground/cutouts", files={"file": ("a.jpg", astronaut)})
        assert sent.headers["RateLimit-Policy"] == '"default";q=10;w=20'
        task = browser.get(sent.json()["endpoints"]["check_status"], params={"wait": 30})
        assert task.json()["status"] == "completed"


def test_the_curls_that_it_prints_work_when_pasted(up: Up) -> None:
    printed = up.log_path.read_text()
    assert "CUTOUT_FETCH_ALLOW_LOOPBACK" in printed
    codia, revid, status = re.findall(r"^curl .*(?:\n  .*)*", printed, re.MULTILINE)

    link = pasted(codia)["data"]["image_url"]
    task_id = pasted(revid)["task_id"]
    wait_until(
        lambda: pasted(status.replace("TASK_ID", task_id))["status"] == "completed",
        RESTART_DEADLINE_S,
    )

    assert httpx.get(link, trust_env=False).content.startswith(b"\x89PNG")


def pasted(command: str) -> dict[str, Any]:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_holds_secrets_is_readable_by_its_owner_only(up: Up) -> None:
    for name in ("up.json", "up.env", "secrets.json", "demo-account.json"):
        assert (up.data_dir / name).stat().st_mode & 0o777 == 0o600, name
    for pid in up.pids.values():
        line = Path(f"/proc/{pid}/cmdline").read_text()
        secrets = (up.data_dir / "secrets.json").read_text().split('"')[3::4]
        assert not [secret for secret in secrets if secret in line]


def test_the_demo_uses_the_stack_that_runs_and_shows_the_bill(up: Up) -> None:
    before = balance(up)

    done = subprocess.run(
        [*COMMAND, "demo", "--data-dir", str(up.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert balance(up) == before - 6 * 25
    assert done.stdout.count(f"{up.facts['url']}/") >= 6  # links that live on
    assert len(re.findall(r"cutout-lite, confidence 0\.\d\d", done.stdout)) == 6
    assert "6 cutouts × 25 = 150 credits" in done.stdout  # noqa: RUF001 - times
    assert "Unsupported image format: gif. Supported: png, jpg, jpeg, webp, bmp" in done.stdout
    with Image.open(up.data_dir / "demo" / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 1000
    assert len(list((up.data_dir / "demo").glob("*-codia.png"))) == 3
    assert len(list((up.data_dir / "demo").glob("*-revid.png"))) == 3
    assert is_running(up.pids["up"])


@pytest.mark.parametrize("name", ["gateway", "worker", "valkey", "postgres"])
def test_a_killed_child_is_back_and_a_cutout_is_charged_once(
    up: Up, name: str, astronaut: bytes
) -> None:
    killed = up.pids[name]
    before = balance(up)
    os.kill(killed, signal.SIGKILL)

    wait_until(lambda: up.pids[name] != killed and is_running(up.pids[name]), RESTART_DEADLINE_S)
    wait_until(lambda: is_ready(up), RESTART_DEADLINE_S)

    answer = cut_out(up, astronaut)
    assert answer.status_code == 200, answer.text
    assert balance(up) == before - 25
    assert f"{name} had ended; it is started again" in up.log_path.read_text()


def test_a_caller_who_comes_while_the_gateway_is_away_waits_and_is_served(
    up: Up, astronaut: bytes
) -> None:
    killed = up.pids["gateway"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_running(killed), RESTART_DEADLINE_S)

    assert cut_out(up, astronaut).status_code == 200


def is_ready(up: Up) -> bool:
    try:
        return httpx.get(f"{up.facts['url']}/health/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_second_start_in_the_same_folder_is_refused_and_harms_nothing(up: Up) -> None:
    done = subprocess.run(
        [*COMMAND, "up", "--data-dir", str(up.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"✗ running at {up.facts['url']} already, as process {up.pids['up']}; "
        f"its key is in {up.data_dir / 'up.json'}\n"
    )
    assert is_ready(up)


def test_a_port_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "up", "--port", str(port), "--data-dir", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr


def test_sigterm_ends_it_cleanly(up: Up) -> None:
    """Runs last in this module: it ends the module's stack."""
    pids = up.pids.values()

    assert up.end(signal.SIGTERM) == 0

    assert not [pid for pid in pids if is_running(pid)]
    assert not processes_naming(str(up.data_dir))
    assert not (up.data_dir / "up.json").exists()
    assert "database system is shut down" in (up.data_dir / "run" / "postgres.log").read_text()


def test_an_ordinary_users_stack_recovers_from_its_own_sudden_death(astronaut: bytes) -> None:
    user = pwd.getpwnam(ORDINARY_USER).pw_uid if os.geteuid() == 0 else None
    command = COMMAND if user is None else command_for(user)
    with tempfile.TemporaryDirectory(prefix="cutout-user-") as folder:
        if user is not None:
            os.chown(folder, user, user)
        up = Up(Path(folder) / "data", command)
        try:
            first = up.start()
            assert cut_out(up, astronaut).status_code == 200

            assert up.end(signal.SIGKILL) == -signal.SIGKILL
            wait_until(lambda: not processes_naming(str(up.data_dir)), RESTART_DEADLINE_S)
            wait_until(
                lambda: not [pid for pid in first["pids"].values() if is_running(pid)],
                RESTART_DEADLINE_S,
            )

            second = up.start()
            assert second["api_key"] == first["api_key"]
            assert second["account_id"] == first["account_id"]
            assert cut_out(up, astronaut).status_code == 200
            assert balance(up) == 50_000 - 2 * 25
            if user is not None:
                assert os.stat(f"/proc/{second['pids']['postgres']}").st_uid == user  # noqa: PTH116
        finally:
            up.end_if_running()
