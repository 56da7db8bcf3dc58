"""The whole gateway on one machine: services, migrations, a demo account, gateway and worker.

The supervisor holds no state that matters. Each child is restarted when it ends; if the supervisor
itself is killed, the kernel ends the children, and the next start finds a folder that it can use.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

from gateway.embedded.process import Child, EmbeddedError, Program
from gateway.embedded.services import Embedded, is_locked, load_secrets
from gateway.settings import child_environment

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 8000
PORTS_TRIED_MAX: Final = 100
LOOK_INTERVAL_S: Final = 0.2
READY_DEADLINE_S: Final = 120.0
READY_ANSWER_S: Final = 5.0
BACKLOG: Final = 1024
PAUSE_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0
STEADY_S: Final = 10.0
"""A child that lived this long is restarted at once; one that did not, after a growing pause."""

DEMO_PLAN: Final = "growth"
# Its key's own limits, far above the plan's and above what a person's test sends, so that the
# first 429 is a wish and not a surprise.
DEMO_RATE_PER_MINUTE: Final = 6_000
DEMO_BURST: Final = 1_000
DEMO_CONCURRENCY_MAX: Final = 512
# The key behind the page at `/`: for a person who tries pictures, not for a program.
PLAYGROUND_RATE_PER_MINUTE: Final = 30
PLAYGROUND_BURST: Final = 10
PLAYGROUND_CONCURRENCY_MAX: Final = 4
PLAYGROUND_BUDGET_CREDITS: Final = 5_000


@dataclass(frozen=True, slots=True)
class DemoAccount:
    account_id: str
    api_key: str
    admin_email: str
    admin_password: str
    """Empty once the owner has chosen another."""
    playground_key: str


class Stack:
    """Everything that `cutout up` runs.

    Args:
        data_dir: holds all of it; made if missing.
        port: the gateway's; None takes 8000 or the next free one.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.services = Embedded(self.data_dir)
        self.account: DemoAccount | None = None
        self._asked_port = port
        self._is_ours = False
        self._listener: socket.socket | None = None
        self._children: dict[str, Child] = {}
        self._started_at: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1] if self._listener is not None else 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def up_path(self) -> Path:
        """Facts of the running stack, there only while it is ready."""
        return self.data_dir / "up.json"

    @property
    def env_path(self) -> Path:
        """The stack's settings as a shell reads them, for the other commands."""
        return self.data_dir / "up.env"

    def start(self, on_step: Callable[[str], None]) -> None:
        """Start everything and wait until it serves; `on_step` is told what is being done.

        Raises:
            EmbeddedError: something does not start, or the folder or the port is taken.
        """
        self._listener = listen(self._asked_port)
        on_step("Postgres and Valkey")
        self.services.start()
        self._is_ours = True
        self.up_path.unlink(missing_ok=True)
        environment = self._environment()
        self._write_private(self.env_path, "".join(f"{k}='{v}'\n" for k, v in environment.items()))
        on_step("migrations and demo account")
        self.account = self._prepare(environment)
        on_step("gateway and worker")
        self._start_children(environment | {"CUTOUT_PLAYGROUND_KEY": self.account.playground_key})
        self._write_up_file()

    def tend(self, stop: Event, on_restart: Callable[[str], None]) -> None:
        """Restart what ends, until `stop` is set; `on_restart` is told the name of each.

        Raises:
            EmbeddedError: Postgres or Valkey does not come back.
        """
        while not stop.wait(LOOK_INTERVAL_S):
            changed = self.services.revive()
            for name, child in self._children.items():
                child.trim_log()
                if not child.is_running() and self._may_restart(name):
                    child.stop()
                    child.start()
                    changed.append(name)
            if changed:
                self._write_up_file()
            for name in changed:
                on_restart(name)

    def stop(self) -> None:
        """End everything in order: first who uses the services, then the services."""
        if self._listener is not None:
            self._listener.close()
        if not self._is_ours:  # another stack has the folder: its facts stay
            return
        self.up_path.unlink(missing_ok=True)
        for child in self._children.values():
            child.request_stop()
        for child in self._children.values():
            child.stop()
        self._children.clear()
        self.services.stop()

    def _environment(self) -> dict[str, str]:
        """Name the stack's own settings."""
        secrets = load_secrets(self.data_dir / "secrets.json", ["pepper", "links"])
        return {
            "CUTOUT_DATABASE_URL": self.services.database_socket_url,
            "CUTOUT_REDIS_URL": self.services.redis_url,
            "CUTOUT_STORAGE_URL": (self.data_dir / "storage").as_uri(),
            "CUTOUT_BIND_HOST": HOST,
            "CUTOUT_BIND_PORT": str(self.port),
            "CUTOUT_PUBLIC_URL": self.url,
            "CUTOUT_KEY_PEPPERS": json.dumps({"1": secrets["pepper"]}),
            "CUTOUT_LINK_SECRET": secrets["links"],
            "CUTOUT_FETCH_ALLOW_LOOPBACK": "true",
        }

    def _child_environment(self, ours: dict[str, str]) -> dict[str, str]:
        # asyncpg looks for certificates in the home folder, which may be another user's.
        return child_environment(
            {**ours, "PGSSLMODE": "disable"}, {"CUTOUT_MISSING_WEIGHTS": "substitute"}
        )

    def _prepare(self, environment: dict[str, str]) -> DemoAccount:
        """Migrate, and find or make the demo account and its key, in a process that ends."""
        kept = self.data_dir / "demo-account.json"
        owner = {"CUTOUT_DATABASE_OWNER_URL": self.services.database_owner_url}
        done = subprocess.run(
            [sys.executable, "-m", "gateway.embedded.prepare"],
            input=kept.read_text() if kept.exists() else "{}",
            env=self._child_environment(environment | owner),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"migrations failed:\n{done.stderr.strip()[-4000:]}")
        self._write_private(kept, done.stdout)
        return DemoAccount(**json.loads(done.stdout))

    def _start_children(self, environment: dict[str, str]) -> None:
        assert self._listener is not None  # noqa: S101 - set by start
        env = self._child_environment(environment)
        # The supervisor listens and the gateway accepts: the port is ours from the beginning, and
        # a caller who comes while the gateway is restarted waits instead of being refused.
        fd = self._listener.fileno()
        programs = [
            Program(
                name="gateway",
                command=[sys.executable, "-m", "gateway.cli", "gateway", "--fd", str(fd)],
                env=env,
                inherited_fds=[fd],
                is_ready=lambda _: self._is_gateway_ready(),
                ready_deadline_s=READY_DEADLINE_S,
            ),
            Program(
                name="worker",
                command=[sys.executable, "-m", "gateway.worker"],
                env=env,
                is_ready=self._is_worker_ready,
                ready_deadline_s=READY_DEADLINE_S,
            ),
        ]
        for program in programs:
            child = self._children[program.name] = Child(program, self.services.run_dir)
            child.start()
            self._started_at[program.name] = time.monotonic()
        for child in self._children.values():
            child.wait_ready()

    def _is_gateway_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=READY_ANSWER_S)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _is_worker_ready(self, pid: int) -> bool:
        """Look for its own word: it listens on no port."""
        lines = self._children["worker"].log_path.read_text(errors="replace").splitlines()
        return any('"worker.ready"' in line and f'"pid": {pid},' in line for line in lines)

    def _may_restart(self, name: str) -> bool:
        """Say whether the pause before this child's next start is over."""
        lived_s = time.monotonic() - self._started_at[name]
        if lived_s >= STEADY_S:
            self._pause_s[name] = PAUSE_S
        elif lived_s < self._pause_s.get(name, PAUSE_S):
            return False
        else:
            self._pause_s[name] = min(self._pause_s.get(name, PAUSE_S) * 2, PAUSE_MAX_S)
        self._started_at[name] = time.monotonic()
        return True

    def _write_up_file(self) -> None:
        assert self.account is not None  # noqa: S101 - set by start
        children = {name: child.pid for name, child in self._children.items()}
        facts: dict[str, Any] = {
            "url": self.url,
            "api_key": self.account.api_key,
            "account_id": self.account.account_id,
            "database_url": self.services.database_url,
            "database_owner_url": self.services.database_owner_url,
            "redis_url": self.services.redis_url,
            "admin_url": f"{self.url}/admin",
            "admin_email": self.account.admin_email,
            "admin_password": self.account.admin_password,
            "pids": {"up": os.getpid(), **self.services.pids, **children},
        }
        self._write_private(self.up_path, json.dumps(facts, indent=2) + "\n")

    def _write_private(self, path: Path, text: str) -> None:
        """Replace a file that holds secrets, whole or not at all."""
        partial = path.with_name(f".{path.name}.new")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(text)
        partial.replace(path)


def listen(asked_port: int | None) -> socket.socket:
    """Listen on the port that was asked for, or else on the first free one from 8000 on.

    Raises:
        EmbeddedError: it is taken, or all nearby are.
    """
    first = asked_port or FIRST_PORT
    for port in range(first, first + (1 if asked_port else PORTS_TRIED_MAX)):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
        else:
            return listener
    if asked_port:
        raise EmbeddedError(f"port {asked_port} is taken: choose another --port")
    raise EmbeddedError(f"no free port from {first} to {first + PORTS_TRIED_MAX}: say --port")


def read_up_file(data_dir: Path) -> dict[str, Any] | None:
    """Read the facts of the stack that runs in `data_dir`, if one runs and is ready."""
    if not is_locked(data_dir):
        return None
    try:
        facts: dict[str, Any] = json.loads((data_dir / "up.json").read_text())
    except FileNotFoundError:
        return None
    return facts
