"""Remove what `cutout up`, run by root, keeps outside of its data folder: for `make clean`."""

import sys
from pathlib import Path

from gateway.embedded.home import forget_home
from gateway.embedded.services import is_locked


def main() -> None:
    """Take the data folder as the only argument; fail where its stack is running."""
    data_dir = Path(sys.argv[1]).resolve()
    if is_locked(data_dir):
        sys.exit(f"the stack of {data_dir} is running: stop it first")
    if folder := forget_home(data_dir):
        sys.stdout.write(f"removed {folder}\n")


if __name__ == "__main__":
    main()
