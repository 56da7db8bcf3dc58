"""Real Postgres and real Valkey in one folder, for `cutout up` and for the tests."""

import fcntl
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from gateway.embedded.home import find_home
from gateway.embedded.postgres import APPLICATION, DATABASE, OWNER, Postgres
from gateway.embedded.process import Child, EmbeddedError, Program
from gateway.embedded.valkey import Valkey

TRIES_MAX: Final = 3
PAUSE_S: Final = 0.5


class Embedded:
    """The services of one data folder; at most one `Embedded` holds a folder at a time.

    Call it from the thread that lives longest (the main one): the services end with the thread
    that started them.

    Args:
        data_dir: made if missing; holds the data, the logs and the passwords (mode 0600).
        postgres_port: on 127.0.0.1; None picks a free one, and another at the next start.
        redis_port: the same.
        is_durable: False skips fsync, for tests.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres_port: int | None = None,
        redis_port: int | None = None,
        is_durable: bool = True,
    ) -> None:
        self.data_dir = data_dir.resolve()  # as /proc names it
        self._asked_ports = (postgres_port, redis_port)
        self._is_durable = is_durable
        self._lock: int | None = None
        self._passwords: dict[str, str] = {}
        self._postgres: Postgres | None = None
        self._valkey: Valkey | None = None
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def run_dir(self) -> Path:
        """Logs and pids of the children."""
        return self.data_dir / "run"

    @property
    def database_url(self) -> str:
        """The application's role."""
        return self._url(APPLICATION, self._passwords["application"])

    @property
    def database_socket_url(self) -> str:
        """The application's role, by the server's Unix socket where it has one: a tenth faster.

        As libpq has it, the folder is named beside the address, which is that of `database_url`: a
        client that does not know how to take a socket goes there.
        """
        folder = self._postgres.socket_folder if self._postgres is not None else None
        return self.database_url + (f"?host={quote(str(folder))}" if folder else "")

    @property
    def database_owner_url(self) -> str:
        """The role that owns the tables and migrates."""
        return self._url(OWNER, self._passwords["owner"])

    @property
    def redis_url(self) -> str:
        if self._valkey is None:
            raise EmbeddedError("the services are not started")
        return f"redis://:{self._valkey.password}@127.0.0.1:{self._valkey.port}/0"

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    def start(self) -> None:
        """Lock the folder, make what is missing, start both and wait until both answer.

        Raises:
            EmbeddedError: the folder is in use, a port is taken, or a service does not start.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.data_dir)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both in order, cleanly, and let the folder go."""
        for child in reversed(self._children.values()):
            child.stop()
        self._children.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def revive(self) -> list[str]:
        """Restart the services that have ended, on their old ports; say which.

        Raises:
            EmbeddedError: one does not come back.
        """
        for child in self._children.values():
            child.trim_log()
        ended = [name for name, child in self._children.items() if not child.is_running()]
        for name in ended:
            self._restart(name)
        return ended

    def restart_postgres(self, mode: str = "immediate") -> None:
        """Stop Postgres and start it again; `immediate` is a crash with recovery, `fast` is not."""
        modes = {"immediate": signal.SIGQUIT, "fast": signal.SIGINT}
        self._children["postgres"].stop(modes[mode])
        self._restart("postgres")

    def _start(self) -> None:
        home = find_home(self.data_dir)
        self.run_dir.mkdir(exist_ok=True)
        self._passwords = load_secrets(
            self.data_dir / "secrets.json", ["owner", "application", "redis"]
        )

        def valkey(port: int) -> Program:
            self._valkey = Valkey(home, port, self._passwords["redis"])
            return self._valkey.program()

        def postgres(port: int) -> Program:
            self._postgres = Postgres(home, port, is_durable=self._is_durable)
            self._postgres.prepare(
                owner_password=self._passwords["owner"],
                application_password=self._passwords["application"],
            )
            return self._postgres.program()

        asked_postgres, asked_redis = self._asked_ports
        self._start_service(valkey, asked_redis)
        self._start_service(postgres, asked_postgres)

    def _start_service(self, describe: Callable[[int], Program], asked_port: int | None) -> None:
        """Start one and wait for it; a port that another took meanwhile is left for a new one."""
        for tries_left in reversed(range(1 if asked_port else TRIES_MAX)):
            program = describe(asked_port or free_port())
            child = self._children[program.name] = Child(program, self.run_dir)
            child.start()
            try:
                child.wait_ready()
            except EmbeddedError:
                child.stop()
                if not tries_left:
                    raise
            else:
                return

    def _restart(self, name: str) -> None:
        """Start it again on its old port, which its clients know."""
        child = self._children[name]
        for tries_left in reversed(range(TRIES_MAX)):
            child.stop()
            if name == "postgres" and self._postgres is not None:
                self._postgres.clear_leftovers()
            child.start()
            try:
                child.wait_ready()
            except EmbeddedError:
                if not tries_left:
                    raise
                time.sleep(PAUSE_S)
            else:
                return

    def _url(self, role: str, password: str) -> str:
        if self._postgres is None:
            raise EmbeddedError("the services are not started")
        return f"postgresql://{role}:{password}@127.0.0.1:{self._postgres.port}/{DATABASE}"


def load_secrets(path: Path, names: list[str]) -> dict[str, str]:
    """Read the secrets of a data folder, adding what is missing; only the owner may read them."""
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= {name: secrets.token_hex(24) for name in missing}
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(known, indent=2))
        partial.replace(path)
    return {name: known[name] for name in names}


def lock_folder(folder: Path) -> int:
    """Take the folder for this process; the kernel gives it back when the process ends.

    Returns:
        The open file that is the lock.

    Raises:
        EmbeddedError: another process has it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode() or "unknown"
        os.close(lock)
        raise EmbeddedError(
            f"{folder} is in use by process {holder}: stop that one, or choose another --data-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def is_locked(folder: Path) -> bool:
    """Say whether a living process has the folder."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def free_port() -> int:
    """Pick a port on 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
