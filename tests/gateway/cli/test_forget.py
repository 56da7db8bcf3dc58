"""`make clean`: what root's stack keeps outside of its folder goes too, and nothing else does."""

import os
import sys
from pathlib import Path

import pytest

from gateway.embedded import forget, home
from gateway.embedded.services import lock_folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shared = tmp_path / "shared"
    monkeypatch.setattr(home, "SHARED", shared)
    return shared


@pytest.fixture
def data_dir(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a place of its own under `shared`, beside another's place."""
    data_dir = tmp_path / "data"
    for folder, id_ in ((data_dir, "a" * 32), (tmp_path / "other", "b" * 32)):
        folder.mkdir()
        (folder / "services-id").write_text(id_)
        (shared / id_ / "postgres").mkdir(parents=True)
        (shared / id_ / "data-dir").write_text(str(folder))
    monkeypatch.setattr(sys, "argv", ["forget", str(data_dir)])
    return data_dir


def test_a_folders_place_is_removed_and_others_stay(data_dir: Path, shared: Path) -> None:
    forget.main()
    forget.main()
    assert (data_dir / "services-id").exists()
    assert [place.name for place in shared.iterdir()] == ["b" * 32]


def test_a_stack_that_runs_keeps_its_place(data_dir: Path, shared: Path) -> None:
    lock = lock_folder(data_dir)
    try:
        with pytest.raises(SystemExit, match="is running: stop it first"):
            forget.main()
    finally:
        os.close(lock)
    assert len(list(shared.iterdir())) == 2


@pytest.mark.parametrize("id_", ["", "..", "../data", "/", "b" * 32])
def test_a_note_that_names_another_place_removes_nothing(
    data_dir: Path, shared: Path, id_: str
) -> None:
    (data_dir / "services-id").write_text(id_)
    forget.main()
    assert len(list(shared.iterdir())) == 2
    assert data_dir.exists()
