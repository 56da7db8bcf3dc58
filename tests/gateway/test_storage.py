"""Storage on a real folder: whole or not at all, durable, confined, purged."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ResultExpiredError, StorageUnavailableError
from gateway.storage import Storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder"


@pytest.fixture
def storage(folder: Path) -> Storage:
    return Storage.from_url(folder.as_uri())


def named(folder: Path, pattern: str) -> list[Path]:
    return list(folder.rglob(pattern))


async def test_what_was_put_is_got_whole_and_piece_by_piece(storage: Storage) -> None:
    content = os.urandom(1_000_000)
    await storage.put("results/job/1.png", content)
    assert await storage.get("results/job/1.png") == content
    pieces = [piece async for piece in storage.stream("results/job/1.png")]
    assert b"".join(pieces) == content
    assert len(pieces) > 1
    assert await storage.exists("results/job/1.png")


async def test_an_empty_object_is_an_object(storage: Storage) -> None:
    await storage.put("empty", b"")
    assert await storage.get("empty") == b""
    assert [piece async for piece in storage.stream("empty")] == []


async def test_the_last_writer_wins(storage: Storage) -> None:
    await asyncio.gather(*(storage.put("same", bytes([n]) * 100_000) for n in range(8)))
    content = await storage.get("same")
    assert content == content[:1] * 100_000


async def test_what_is_not_there_has_expired(storage: Storage) -> None:
    assert not await storage.exists("results/none.png")
    with pytest.raises(ResultExpiredError):
        await storage.get("results/none.png")
    with pytest.raises(ResultExpiredError):
        await anext(aiter(storage.stream("results/none.png")))


async def test_a_deleted_object_is_gone_and_deleting_again_is_harmless(storage: Storage) -> None:
    await storage.put("results/a.png", b"x")
    await storage.delete("results/a.png")
    await storage.delete("results/a.png")
    assert not await storage.exists("results/a.png")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../../b",
        "a//b",
        "a/",
        "./a",
        ".hidden",
        "a/.b",
        "a\\b",
        "a\x00b",
        "a b",
        "a#1",
        "ü",
        "%2e%2e/a",
        "a" * 201,
    ],
)
async def test_a_key_cannot_leave_the_folder(storage: Storage, key: str) -> None:
    for attempt in (
        storage.put(key, b"x"),
        storage.get(key),
        storage.delete(key),
        storage.exists(key),
    ):
        with pytest.raises(ValueError, match="storage key"):
            await attempt


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(max_size=20))
async def test_whatever_the_key_nothing_is_written_outside(
    storage: Storage, folder: Path, key: str
) -> None:
    try:
        await storage.put(f"in/{key}", b"x")
    except ValueError:
        return
    except StorageUnavailableError:  # a folder and a file of one name
        return
    assert (folder / "in" / key).is_file()
    assert {entry.name for entry in folder.parent.iterdir()} == {folder.name}


async def test_purge_takes_what_is_old_and_leaves_the_rest(storage: Storage, folder: Path) -> None:
    for key in ("results/old.png", "results/deep/old.png", "results/new.png", "sources/old.png"):
        await storage.put(key, b"x")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    for old in named(folder, "old.png"):
        os.utime(old, (yesterday, yesterday))

    assert await storage.purge("results", datetime.now(UTC) - timedelta(hours=1)) == 2

    left = {str(path.relative_to(folder)) for path in named(folder, "*")}
    assert left == {"results", "results/new.png", "sources", "sources/old.png"}


async def test_purge_takes_what_a_killed_writer_left_behind(storage: Storage, folder: Path) -> None:
    await storage.put("results/a.png", b"x")
    (folder / "results/a.png#1").write_bytes(b"half")
    await storage.purge("results", datetime.now(UTC) - timedelta(hours=1))
    assert (folder / "results/a.png#1").exists()
    await storage.purge("results", datetime.now(UTC) + timedelta(hours=1))
    assert named(folder, "*") == []


async def test_purge_passes_by_what_cannot_be_deleted(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("results/a.png", "results/b.png", "results/c.png"):
        await storage.put(key, b"x")
    delete = storage.delete

    async def refuse_one(key: str) -> None:  # for root, no folder is closed
        if key == "results/b.png":
            raise StorageUnavailableError
        await delete(key)

    monkeypatch.setattr(storage, "delete", refuse_one)

    assert await storage.purge("results", datetime.now(UTC) + timedelta(hours=1)) == 2
    assert [path.name for path in named(folder, "*.png")] == ["b.png"]


async def test_what_is_gone_before_it_is_kept_is_a_broken_store_and_not_an_expired_result(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = storage._sync

    def take_away(key: str) -> None:  # as a clean-up from outside does
        (folder / key).unlink()
        sync(key)

    monkeypatch.setattr(storage, "_sync", take_away)

    with pytest.raises(StorageUnavailableError):
        await storage.put("results/a.png", b"x")


async def test_purging_where_nothing_was_ever_put_is_harmless(storage: Storage) -> None:
    assert await storage.purge("results", datetime.now(UTC)) == 0


async def test_a_folder_that_cannot_be_written_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailableError):
        Storage.from_url((tmp_path / "file").as_uri())


@pytest.mark.parametrize(
    "url", ["", "relative/path", "file://", "file:///", "ftp://x/y", "file://host/x"]
)
def test_an_unknown_kind_of_store_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValueError, match="storage_url"):
        Storage.from_url(url)


async def test_a_store_that_breaks_is_unavailable(storage: Storage, folder: Path) -> None:
    (folder / "results").write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailableError):
        await storage.put("results/a.png", b"x")


def test_a_writer_killed_in_mid_write_leaves_the_old_object_whole(folder: Path) -> None:
    """Kill real processes at odd moments; under the key there is always one whole version."""
    writer = """
import asyncio, sys
from gateway.storage import Storage
async def main():
    storage = Storage.from_url(sys.argv[1])
    await storage.put("key", b"0" * 4_000_000)
    print("ready", flush=True)
    for number in range(1, 10_000):
        await storage.put("key", b"%d" % (number % 10) * 4_000_000)
asyncio.run(main())
"""
    for pause_s in (0.001, 0.013, 0.037):
        process = subprocess.Popen(
            [sys.executable, "-c", writer, folder.as_uri()], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(pause_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = (folder / "key").read_bytes()
        assert content == content[:1] * 4_000_000


async def test_put_returns_only_when_file_and_folders_are_on_the_disk(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one call that no test can see the effect of is watched instead."""
    flushed: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    await storage.put("results/job/1.png", b"x")
    assert flushed == [
        folder / "results/job/1.png",
        folder / "results/job",
        folder / "results",
        folder,
    ]
