"""The Revid contract: an upload becomes a task, the task is polled, its cutout is downloaded.

What the contract shows as a failed task stays one: a file of the wrong kind is accepted, and fails
when its bytes are looked at. A task is read by its unguessable id; a key that is sent along must be
its owner's.
"""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, HttpMethod, Request, Response, delete, get, post, route
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from gateway.auth import Caller
from gateway.cutouts import Cutouts
from gateway.dialects.door import AS_X_API_KEY, Door
from gateway.dialects.downloads import answer_file
from gateway.dialects.facts import facts_of
from gateway.dialects.forms import (
    MULTIPART,
    AnyRequest,
    OptionsForm,
    body_kind,
    parse_form,
)
from gateway.dialects.headers import CHARGED, credit_headers
from gateway.dialects.reception import Reception
from gateway.dialects.revid_documents import (
    created_document,
    filename_of,
    refusal_document,
    task_document,
)
from gateway.errors import InvalidRequestError, JobBegunError, JobNotFoundError, Problem
from gateway.settings import Settings
from gateway.storage import Storage
from gateway.tables import SUCCEEDED, Job

DIALECT: Final = "revid"
FILE_NAMES: Final = ("file",)
SCOPE: Final = "cutout"
DEFAULT_MODEL: Final = "u2net"
WAIT_S_MAX: Final = 30


def shape_problem(problem: Problem, words: str) -> Response[Any]:
    return Response(refusal_document(problem, words), status_code=problem.status)


def key_of(request: AnyRequest) -> str | None:
    return request.headers.get("x-api-key")


async def revid_caller(request: Request[Any, Any, Any], door: NamedDependency[Door]) -> Caller:
    return await door.enter(request, key_of(request), scope=SCOPE, send_as=AS_X_API_KEY)


async def readable_task(
    request: Request[Any, Any, Any],
    task_id: FromPath[str],
    door: NamedDependency[Door],
    cutouts: NamedDependency[Cutouts],
) -> Job:
    """Read the task of `task_id`; one that is not to be read looks like one that is not there.

    Raises:
        JobNotFoundError: no such task for this caller.
        RateLimitedError: this address keeps asking for what is not there.
    """
    try:
        owner = await door.owner_of(request, key_of(request))
        job = await cutouts.find(UUID(task_id), owner)
    except (JobNotFoundError, ValueError):
        job = None
    # A result of the synchronous dialect is behind a signed link, which its id must not bypass.
    if job is None or job.dialect != DIALECT:
        await door.take_address(request)
        raise JobNotFoundError
    facts_of(request).job_id = job.id
    return job


async def downloadable_task(
    request: Request[Any, Any, Any],
    filename: FromPath[str],
    door: NamedDependency[Door],
    cutouts: NamedDependency[Cutouts],
) -> Job:
    """Read the task whose result is called `filename`. Raises as `readable_task`."""
    job = await readable_task(request, filename.partition("_")[0], door, cutouts)
    if job.state != SUCCEEDED or filename != filename_of(job):
        raise JobNotFoundError
    return job


def answer_task(job: Job, settings: Settings) -> Response[dict[str, Any]]:
    headers = {CHARGED: str(job.charged_credits)} if job.has_ended else {}
    return Response(task_document(job, settings.public_url), headers=headers)


async def accept_task(
    request: AnyRequest, caller: Caller, reception: Reception
) -> Response[dict[str, Any]]:
    """Store the upload, commit the task and its hold, and answer at once."""
    kind = body_kind(request, MULTIPART)
    async with reception.read(request, caller, kind, OptionsForm, FILE_NAMES) as body:
        form = parse_form(body.fields, OptionsForm, is_text=True)
        if body.file is None:
            raise InvalidRequestError("missing required field file")
        asked = reception.ask(caller, body, form, dialect=DIALECT, model=DEFAULT_MODEL)
        submitted = await reception.cutouts.submit(await reception.with_options(asked, body, form))
    facts_of(request).job_id = submitted.job_id
    headers = credit_headers(
        charged=submitted.charged_credits,
        remaining=await reception.door.remaining(caller, submitted.balance),
        held=submitted.held_credits,
        is_replayed=submitted.is_replayed,
    )
    return Response(created_document(submitted.job_id), headers=headers)


async def cancel_waiting(job: Job, caller: Caller, cutouts: Cutouts) -> Job:
    """Cancel a task that waits.

    Raises:
        JobBegunError: it is in work, and goes on.
    """
    job = await cutouts.cancel(job.id, caller.key.account_id)
    if not job.has_ended:
        raise JobBegunError
    return job


def _seconds(wait: str) -> float:
    """Read `?wait=`, at most `WAIT_S_MAX`.

    Raises:
        InvalidRequestError: it is no number of seconds.
    """
    try:
        wait_s = float(wait)
    except ValueError:
        wait_s = -1
    if not wait_s >= 0:  # nor is NaN
        raise InvalidRequestError("wait must be a number of seconds, 0 or more")
    return min(wait_s, WAIT_S_MAX)


class RevidController(Controller):
    @post(
        "/paid/image/remove/background",
        status_code=200,
        dependencies={"caller": Provide(revid_caller)},
    )
    async def start_removal(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        reception: NamedDependency[Reception],
    ) -> Response[dict[str, Any]]:
        return await accept_task(request, caller, reception)

    @get("/api/get/{task_id:str}", dependencies={"job": Provide(readable_task)})
    async def read_task(
        self,
        job: NamedDependency[Job],
        cutouts: NamedDependency[Cutouts],
        settings: NamedDependency[Settings],
        wait: Annotated[str, QueryParameter()] = "0",
    ) -> Response[dict[str, Any]]:
        """Tell how the task stands; with `wait`, once it has ended or so many seconds are over."""
        wait_s = _seconds(wait)
        if wait_s and not job.has_ended:
            job = await cutouts.wait(job.id, None, wait_s=wait_s)
        return answer_task(job, settings)

    @delete(
        "/api/get/{task_id:str}",
        status_code=200,
        dependencies={"caller": Provide(revid_caller), "job": Provide(readable_task)},
    )
    async def cancel_task(
        self,
        caller: NamedDependency[Caller],
        job: NamedDependency[Job],
        cutouts: NamedDependency[Cutouts],
        settings: NamedDependency[Settings],
    ) -> Response[dict[str, Any]]:
        """Cancel a task that waits; one that has ended is answered as it ended.

        Raises:
            JobBegunError: it is in work, and goes on.
        """
        return answer_task(await cancel_waiting(job, caller, cutouts), settings)

    @route(
        "/output/{filename:str}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        dependencies={"job": Provide(downloadable_task)},
    )
    async def download(
        self,
        request: Request[Any, Any, Any],
        job: NamedDependency[Job],
        storage: NamedDependency[Storage],
    ) -> Response[Any]:
        """Give the cutout of a completed task, until it expires."""
        is_head = request.method == HttpMethod.HEAD
        return await answer_file(storage, job, filename_of(job), is_head=is_head)
