"""The upload of a succeeded job lives with its result: no shorter, and no longer."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.errors import StorageUnavailableError
from gateway.tables import Job
from tests.gateway.workshop import OpenWorkshop, Workshop

DAY_S = 86_400


async def made(workshop: Workshop, picture: bytes, **changes: Any) -> Job:
    """Submit one picture, make its cutout, and sweep what is left of it."""
    caller = await workshop.caller()
    request = workshop.request(caller, picture, dialect="revid", **changes)
    job_id = (await workshop.cutouts.submit(request)).job_id
    await workshop.work_off()
    await workshop.sweeper.sweep()
    return await workshop.cutouts.find(job_id)


def lies(workshop: Workshop, job_id: UUID) -> set[str]:
    """Tell what storage's folder has of a job, by kind."""
    folder: Path = workshop.cutouts.storage._folder
    return {kind for kind in ("sources", "results") if any((folder / kind).glob(f"{job_id}/*"))}


async def test_the_upload_of_a_succeeded_job_lives_as_long_as_its_result(
    workshop: Workshop, astronaut: bytes
) -> None:
    job = await made(workshop, astronaut)
    assert job.is_tidy
    assert await workshop.cutouts.storage.get(str(job.source_key)) == astronaut
    assert lies(workshop, job.id) == {"sources", "results"}

    await workshop.let_result_expire(job.id)
    await workshop.sweeper.sweep()

    assert lies(workshop, job.id) == set()
    assert (await workshop.cutouts.find(job.id)).purged_at is not None


async def test_the_upload_goes_at_once_where_none_is_to_be_kept(
    open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    workshop = await open_workshop(keep_sources=False)

    job = await made(workshop, astronaut)

    assert job.is_tidy
    assert lies(workshop, job.id) == {"results"}


async def test_the_upload_of_a_canceled_job_goes_at_once(
    workshop: Workshop, astronaut: bytes
) -> None:
    caller = await workshop.caller()
    (job_id,) = await workshop.queued(caller, picture=astronaut)
    assert lies(workshop, job_id) == {"sources"}
    await workshop.cutouts.cancel(job_id, caller.key.account_id)

    await workshop.sweeper.sweep()

    assert lies(workshop, job_id) == set()


@pytest.mark.parametrize("kind", ["source", "result"])
async def test_a_sweep_that_ends_between_the_two_leaves_nothing_for_ever(
    workshop: Workshop, astronaut: bytes, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    job = await made(workshop, astronaut)
    await workshop.let_result_expire(job.id)
    refused = job.source_key if kind == "source" else job.result_key
    delete = workshop.cutouts.storage.delete

    async def refuse_one(key: str) -> None:
        if key == refused:
            raise StorageUnavailableError(key)
        await delete(key)

    # Patched, since no disk fails when it is told to.
    with monkeypatch.context() as patch:
        patch.setattr(workshop.cutouts.storage, "delete", refuse_one)
        await workshop.sweeper.sweep()
    assert lies(workshop, job.id)
    assert (await workshop.cutouts.find(job.id)).purged_at is None

    await workshop.sweeper.sweep()

    assert lies(workshop, job.id) == set()
    assert (await workshop.cutouts.find(job.id)).purged_at is not None


async def test_a_kept_upload_is_no_orphan_until_the_longest_plan_is_over(
    workshop: Workshop, astronaut: bytes
) -> None:
    job = await made(workshop, astronaut)
    path = workshop.cutouts.storage._folder / str(job.source_key)
    long_kept = await made(workshop, astronaut)
    of_long_ago = workshop.cutouts.storage._folder / str(long_kept.source_key)
    os.utime(path, (time.time() - 2 * DAY_S,) * 2)
    os.utime(of_long_ago, (time.time() - 400 * DAY_S,) * 2)

    await workshop.sweeper.purge_orphans()

    assert path.exists()
    assert not of_long_ago.exists()


async def test_what_was_kept_goes_soon_after_keeping_is_turned_off(
    workshop: Workshop, open_workshop: OpenWorkshop, astronaut: bytes
) -> None:
    job = await made(workshop, astronaut)
    path = workshop.cutouts.storage._folder / str(job.source_key)
    os.utime(path, (time.time() - 2 * DAY_S,) * 2)
    strict = await open_workshop(
        keep_sources=False,
        failed_source_ttl=timedelta(days=1),
        storage_url=workshop.settings.storage_url,
    )

    await strict.sweeper.purge_orphans()

    assert lies(workshop, job.id) == {"results"}
