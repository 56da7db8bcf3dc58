"""A small slice of the photographs that train our networks. Needs nothing of the gateway."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest

PER_SOURCE = {"caltech_bg": 6, "caltech101": 6, "clothes": 6, "grocery_iconic": 6}


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return `../shared`, where the pack and the teacher lie."""
    folder = Path(__file__).resolve().parents[3] / "shared"
    if not (folder / "data" / "train" / "photos.tar").exists():
        pytest.skip("needs ../shared/data/train/photos.tar, which is not in the repository")
    return folder


@pytest.fixture(scope="session")
def slice_of_pack(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack a few photographs of each kind, and the manifest's rows of these."""
    folder = tmp_path_factory.mktemp("pack")
    taken: Counter[str] = Counter()
    names: set[str] = set()
    with tarfile.open(shared / "data" / "train" / "photos.tar") as pack:
        for member in pack:
            parts = Path(member.name).parts
            source = parts[1] if len(parts) > 2 else ""
            if member.isfile() and taken[source] < PER_SOURCE.get(source, 0):
                taken[source] += 1
                names.add(str(Path(member.name)))
                pack.extract(member, folder, filter="data")
            elif member.name.endswith("manifest.csv"):
                pack.extract(member, folder, filter="data")
    manifest = folder / "manifest.csv"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if line.split(",")[0] in names]
    manifest.write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
    return folder
