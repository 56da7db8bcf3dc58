"""The account's jobs: the newest first, one by one, and what they made while it lives."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from billing.db import SessionFactory
from billing.key_lists import keys_among
from gateway.console.places import place_of
from gateway.console.thumbnails import MEDIA_TYPE, is_drawable, thumbnail_of
from gateway.console.visitor import Visitor, shown
from gateway.errors import ResultExpiredError, title_of
from gateway.storage import Storage
from gateway.tables import CANCELED, FAILED, PROCESSING, QUEUED, SUCCEEDED, Job
from gateway.web.pages import page
from gateway.web.refusals import MissingPageError, PageError

ROWS_MAX: Final = 25
STATES: Final = (QUEUED, PROCESSING, SUCCEEDED, FAILED, CANCELED)
LISTED: Final = (
    *(Job.id, Job.state, Job.created_at, Job.finished_at, Job.model_asked, Job.model_ran),
    *(Job.api_key_id, Job.charged_credits, Job.error_code, Job.width_px, Job.height_px),
    *(
        Job.error_kind,
        Job.media_type,
        Job.result_expires_at,
        Job.purged_at,
        Job.env,
        Job.dialect,
        Job.progress,
    ),
)
CONTENT_POLICY: Final = "default-src 'none'; sandbox"


class ResultGoneError(PageError):
    """There was a result, and its time is over."""

    status = 410
    title = "The result has expired"
    hint = "Results are kept for as long as your plan says, and then deleted."


class JobsController(Controller):
    path = "/jobs"

    @get()
    async def show_all(
        self,
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query = request.query_params
        state = query.get("state", "")
        async with sessions() as db:
            jobs = await _newest(db, visitor.account_id, query)
            keys = await keys_among(db, visitor.account_id, [job.api_key_id for job in jobs])
        names = {key_id: key.name or shown(key) for key_id, key in keys.items()}
        return page(
            "console/jobs.html",
            visitor=visitor,
            jobs=jobs[:ROWS_MAX],
            has_more=len(jobs) > ROWS_MAX,
            is_first=not query.get("before"),
            state=state,
            here=f"{request.url.path}?{request.url.query}",
            states=STATES,
            names=names,
            has_picture=_has_picture,
            is_kept=_is_kept,
            title_of=title_of,
        )

    @get("/{job_id:uuid}")
    async def show(
        self,
        job_id: FromPath[UUID],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        async with sessions() as db:
            job = await _own(db, visitor, job_id)
            keys = await keys_among(db, visitor.account_id, [job.api_key_id])
        return page(
            "console/job.html",
            visitor=visitor,
            job=job,
            key=keys.get(job.api_key_id),
            shown=shown,
            is_kept=_is_kept(job),
            has_picture=_has_picture(job),
            error=title_of(job.error_kind, job.error_code),
        )

    @get("/{job_id:uuid}/thumbnail")
    async def draw(
        self,
        job_id: FromPath[UUID],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        storage: NamedDependency[Storage],
    ) -> Response[bytes]:
        async with sessions() as db:
            job = await _own(db, visitor, job_id)
        if not _has_picture(job) or job.result_key is None:
            raise MissingPageError
        try:
            picture = await storage.get(job.result_key)
        except ResultExpiredError:
            raise ResultGoneError from None
        headers = {"Cache-Control": _kept_for(job)}
        return Response(await thumbnail_of(picture), headers=headers, media_type=MEDIA_TYPE)

    @get("/{job_id:uuid}/result")
    async def download(
        self,
        job_id: FromPath[UUID],
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
        storage: NamedDependency[Storage],
    ) -> Stream:
        async with sessions() as db:
            job = await _own(db, visitor, job_id)
        if job.state != SUCCEEDED or job.result_key is None:
            raise MissingPageError
        if not _is_kept(job) or not await storage.exists(job.result_key):
            raise ResultGoneError
        headers = {
            "Cache-Control": _kept_for(job),
            "Content-Disposition": f'attachment; filename="{job.id}.{job.extension}"',
            "Content-Security-Policy": CONTENT_POLICY,
        }
        return Stream(storage.stream(job.result_key), headers=headers, media_type=job.media_type)


async def _newest(db: AsyncSession, account_id: UUID, query: Mapping[str, str]) -> list[Job]:
    """List a page of jobs, and one more where there is another page."""
    chosen = select(Job).where(Job.account_id == account_id).options(load_only(*LISTED))
    if state := query.get("state"):
        if state not in STATES:
            raise MissingPageError
        chosen = chosen.where(Job.state == state)
    if before := query.get("before"):
        chosen = chosen.where(tuple_(Job.created_at, Job.id) < place_of(before))
    newest = chosen.order_by(Job.created_at.desc(), Job.id.desc()).limit(ROWS_MAX + 1)
    return list(await db.scalars(newest))


async def _own(db: AsyncSession, visitor: Visitor, job_id: UUID) -> Job:
    """Find a job of this account; another's is not there.

    Raises:
        MissingPageError: this account has no such job.
    """
    chosen = select(Job).where(Job.id == job_id, Job.account_id == visitor.account_id)
    job: Job | None = await db.scalar(chosen)
    if job is None:
        raise MissingPageError
    return job


def _is_kept(job: Job) -> bool:
    """Tell whether the result can still be had."""
    is_living = job.result_expires_at is not None and job.result_expires_at > datetime.now(UTC)
    return job.state == SUCCEEDED and job.purged_at is None and is_living


def _has_picture(job: Job) -> bool:
    return _is_kept(job) and is_drawable(job.media_type, job.width_px, job.height_px)


def _kept_for(job: Job) -> str:
    """Let the browser keep it for as long as we do."""
    ends_at = job.result_expires_at or datetime.now(UTC)
    seconds = (ends_at - datetime.now(UTC)).total_seconds()
    return f"private, max-age={max(0, int(seconds))}"
