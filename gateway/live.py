"""The container's health check: exit code 0 if the gateway on this machine answers.

Light on purpose: it runs every few seconds, and reads no settings but the port.
"""

import http.client
import sys
from typing import Final

PORT: Final = 8000
DEADLINE_S: Final = 2.0


def main() -> None:
    """Ask `/health/live` on the port given as the only argument, 8000 without one."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/health/live")
        is_live = connection.getresponse().status == http.client.OK
    except OSError:
        is_live = False
    sys.exit(0 if is_live else 1)


if __name__ == "__main__":
    main()
