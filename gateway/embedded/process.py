"""A child process that never outlives its parent, is restarted by it, and leaves no stale trace.

Linux only: the kernel sends the child a signal when its parent thread ends (`PR_SET_PDEATHSIG`),
whichever way that was, SIGKILL included. Start children from a thread that lives as long as they
should: the main one. For what that misses, each child's pid is on disk with the tick at which it
started, and the next start ends it.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
LOG_BYTES_MAX: Final = 8 * 2**20
POLL_S: Final = 0.01

# Loaded here, not in the child: between fork and exec nothing may take a lock.
_libc = ctypes.CDLL(None, use_errno=True)


class EmbeddedError(Exception):
    """An embedded service cannot be started; the message is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    uid: int | None = None
    """Become this user before exec; None stays who we are."""
    stdin: bytes = b""
    inherited_fds: Sequence[int] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when we are gone."""
    is_ready: Callable[[int], bool] = field(default=lambda _: True)
    """Asked with the pid until it is true."""
    ready_deadline_s: float = 30.0


class Child:
    """One running `Program`, with its log and its pid on disk.

    Args:
        program: what to run.
        folder: gets `<name>.log` and `<name>.pid`; must exist.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.log_path = folder / f"{program.name}.log"
        self.pid_path = folder / f"{program.name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, ending what an earlier run left behind, and return at once."""
        end_leftover(self.pid_path)
        program = self.program
        self.trim_log()
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command lines
                program.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(program.env),
                user=program.uid,
                group=None if program.uid is None else pwd.getpwuid(program.uid).pw_gid,
                extra_groups=None if program.uid is None else [],
                pass_fds=program.inherited_fds,
                preexec_fn=_tie_to_parent(program.orphan_signal),  # noqa: PLW1509 - two system calls
                start_new_session=True,  # Ctrl-C is ours to pass on, in order
            )
        self._process = process
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(program.stdin)
        self.pid_path.write_text(f"{process.pid} {start_ticks(process.pid)}")

    def wait_ready(self) -> None:
        """Return once the program says it is ready.

        Raises:
            EmbeddedError: it ended, or was not ready in time; the end of its log is in the message.
        """
        deadline = time.monotonic() + self.program.ready_deadline_s
        while time.monotonic() < deadline:
            if self.pid is None or not self.is_running():
                raise EmbeddedError(f"{self.program.name} ended at start{self._log_tail()}")
            if self.program.is_ready(self.pid):
                return
            time.sleep(POLL_S)
        raise EmbeddedError(f"{self.program.name} was not ready in time{self._log_tail()}")

    def request_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self._process is not None and self.is_running():
            self._process.send_signal(self.program.stop_signal)

    def stop(self, how: signal.Signals | None = None, *, deadline_s: float = 25.0) -> None:
        """End it and wait; past the deadline it is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how or self.program.stop_signal)
            try:
                process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.pid_path.unlink(missing_ok=True)

    def trim_log(self) -> None:
        """Put a long log aside and go on with an empty one; the child keeps its open file."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            shutil.copy(self.log_path, self.log_path.with_suffix(".log.1"))
            os.truncate(self.log_path, 0)

    def _log_tail(self, lines: int = 8) -> str:
        tail = self.log_path.read_text(errors="replace").splitlines()[-lines:]
        return "\n  ".join([f" (see {self.log_path}):", *tail])


def start_ticks(pid: int) -> int | None:
    """Look up when a process started, which tells it from a later one of the same pid.

    Returns:
        Clock ticks since boot; None if no such process runs. A zombie does not run, unless it is
        only the first thread that has ended: the others still hold the files and the ports.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    threads, ticks = int(numbers[16]), int(numbers[18])
    return None if state in "ZX" and threads <= 1 else ticks


def end_leftover(pid_path: Path) -> None:
    """Kill the process that an earlier run noted in `pid_path`, if it is still that process."""
    try:
        pid, ticks = map(int, pid_path.read_text().split())
    except (FileNotFoundError, ValueError):
        return
    if start_ticks(pid) == ticks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_gone([pid], deadline_s=5.0)
    pid_path.unlink(missing_ok=True)


def wait_gone(pids: Sequence[int], *, deadline_s: float) -> list[int]:
    """Wait until none of `pids` runs; return those that still do after the deadline."""
    deadline = time.monotonic() + deadline_s
    while (left := [pid for pid in pids if start_ticks(pid)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def _tie_to_parent(orphan_signal: signal.Signals) -> Callable[[], None]:
    """Make the function that runs in the child, after it has changed user and before exec.

    The order matters: changing user clears the parent-death signal.
    """
    parent = os.getpid()

    def tie() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above took hold
            os._exit(1)

    return tie
