"""Jobs: the list, and one job with its times, its money, its webhooks and its pictures."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect

from billing.db import SessionFactory
from core import WEIGHTS, CoreError
from gateway.cutouts import Cutouts
from gateway.dashboard.asked import id_in, word_in
from gateway.dashboard.job_facts import ERROR_CODES, facts_of
from gateway.dashboard.job_list import COUNTED_MAX, HERE, STATES, JobFilter, find_jobs
from gateway.dashboard.staff import Staff
from gateway.source import Source
from gateway.storage import Storage
from gateway.tables import Job
from gateway.web.pages import HEADERS, page
from gateway.web.refusals import MissingPageError

# What a picture could carry as script stays without effect when it is opened by itself.
PICTURE_POLICY: Final = {"Content-Security-Policy": "default-src 'none'; sandbox"}
SHOWN_AS: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "gif": "image/gif",
}
BYTES: Final = "application/octet-stream"


class JobsController(Controller):
    path = "/jobs"

    @get()
    async def show_list(
        self,
        request: Request[Any, Any, Any],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[Any]:
        query = request.query_params.dict()
        asked = {name: str(values[-1]) for name, values in query.items()}
        job_id = id_in(word_in(asked, "job"))
        async with sessions() as db:
            if job_id is not None and await db.get(Job, job_id) is not None:
                return Redirect(f"{HERE}/{job_id}", status_code=303, headers=HEADERS)
            chosen = JobFilter.of(asked)
            found = await find_jobs(db, chosen, asked)
        return page(
            "dashboard/jobs.html",
            staff=staff,
            found=found,
            chosen=chosen,
            job_asked=word_in(asked, "job"),
            states=STATES,
            models=list(WEIGHTS),
            errors=ERROR_CODES,
            counted_max=COUNTED_MAX,
        )

    @get("/{job_id:uuid}")
    async def show_one(
        self,
        job_id: FromPath[UUID],
        staff: NamedDependency[Staff],
        sessions: NamedDependency[SessionFactory],
        cutouts: NamedDependency[Cutouts],
    ) -> Response[str]:
        async with sessions() as db:
            facts = await facts_of(db, job_id)
        job = facts.job
        has_source = job.source_key is not None and await cutouts.storage.exists(job.source_key)
        return page(
            "dashboard/job.html",
            staff=staff,
            facts=facts,
            job=job,
            has_source=has_source,
            has_result=facts.lives(datetime.now(UTC)),
            is_shown=(job.extension or "") in SHOWN_AS,
            kept_for=cutouts.settings.failed_source_ttl,
            is_source_kept=cutouts.settings.keep_sources,
        )

    @get("/{job_id:uuid}/source", opt={"role": "support"})
    async def show_source(
        self,
        job_id: FromPath[UUID],
        sessions: NamedDependency[SessionFactory],
        storage: NamedDependency[Storage],
        cutouts: NamedDependency[Cutouts],
    ) -> Response[bytes]:
        """Serve the customer's picture, as what it is and not as what it is called."""
        async with sessions() as db:
            job = await db.get(Job, job_id)
        if job is None or job.source_key is None:
            raise MissingPageError
        content = await storage.get(job.source_key)
        try:
            kind = cutouts.inference.inspect(Source(content)).format.lower()
        except CoreError:
            kind = ""
        return _picture(content, kind, f"{job_id}-source")

    @get("/{job_id:uuid}/result", opt={"role": "support"})
    async def show_result(
        self,
        job_id: FromPath[UUID],
        sessions: NamedDependency[SessionFactory],
        storage: NamedDependency[Storage],
    ) -> Response[bytes]:
        async with sessions() as db:
            job = await db.get(Job, job_id)
        if job is None or job.result_key is None:
            raise MissingPageError
        return _picture(await storage.get(job.result_key), job.extension or "", f"{job_id}")


def _picture(content: bytes, kind: str, name: str) -> Response[bytes]:
    """Answer a picture that a browser may show; anything else it may only save."""
    place = "inline" if kind in SHOWN_AS else "attachment"
    disposition = f'{place}; filename="{name}.{kind or "bin"}"'
    return Response(
        content,
        headers={**HEADERS, **PICTURE_POLICY, "Content-Disposition": disposition},
        media_type=SHOWN_AS.get(kind, BYTES),
    )
