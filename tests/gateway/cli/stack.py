"""A real `cutout up`, as a person or a machine starts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

READY_DEADLINE_S = 90.0
STOP_DEADLINE_S = 40.0
COMMAND = [sys.executable, "-m", "gateway.cli"]


class Up:
    """One `cutout up` in a folder.

    Args:
        data_dir: its data.
        command: how `cutout` is run.
    """

    def __init__(self, data_dir: Path, command: Sequence[str] = COMMAND) -> None:
        self.data_dir = data_dir
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())
        return facts

    @property
    def log_path(self) -> Path:
        """What it printed."""
        return self.data_dir.parent / f"{self.data_dir.name}.log"

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.facts["pids"]
        return pids

    def start(self) -> dict[str, Any]:
        """Start it and wait until it says that it is ready."""
        with self.log_path.open("a") as log:
            self._process = process = subprocess.Popen(
                [*self._command, "up", "--data-dir", str(self.data_dir)],
                stdout=log,
                stderr=log,
                text=True,
            )

        def is_ready() -> bool:
            assert process.poll() is None, self.log_path.read_text()
            return (self.data_dir / "up.json").exists() and self.pids["up"] == process.pid

        wait_until(is_ready, READY_DEADLINE_S)
        return self.facts

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait for the process; its exit code, negative for a signal."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(STOP_DEADLINE_S)

    def end_if_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGTERM)


def command_for(user: int) -> list[str]:
    """Find how that user may run our interpreter, which may be in a folder that is closed to it.

    There, and only to get at it, the user is also given the right to read every file.
    """
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for command in (drop, [*drop, *may_read]):
        with contextlib.suppress(FileNotFoundError):
            # env stands between: setpriv itself keeps root's rights until it has started something.
            tried = [*command, "env", sys.executable, "-c", "import asyncpg.protocol"]
            if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
                return [*command, *COMMAND]
    if os.environ.get("CI"):
        pytest.fail("CI has to have setpriv, and a Python that an ordinary user may run")
    pytest.skip("needs setpriv, and a Python that an ordinary user may run")


def wait_until(is_so: Any, deadline_s: float) -> None:
    """Ask until it is so; fail after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {deadline_s} s"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends as we read
        return False
    return state not in "ZX"


def processes_naming(text: str) -> list[int]:
    """List every process on this machine whose command line, or working folder, has `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                is_named = text in line or text in str((entry / "cwd").readlink())
            except OSError:
                continue
            if is_named and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found
