"""The Codia contract: one synchronous call, a picture's URL in, its cutout's URL out.

Documented keys are exactly the contract's; what we add stands beside them at the top, so that a
client that reads `code`, `message` and `data.image_url` meets nothing new.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, HttpMethod, Request, Response, post, route
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from gateway.answers import Finished
from gateway.auth import Caller
from gateway.cutouts import Cutouts
from gateway.dialects.door import AS_BEARER, Door, bearer_of
from gateway.dialects.downloads import answer_file
from gateway.dialects.facts import facts_of
from gateway.dialects.forms import JSON, MULTIPART, Body, OptionsForm, body_kind, parse_form
from gateway.dialects.hangup import while_connected
from gateway.dialects.headers import credit_headers
from gateway.dialects.reception import Reception
from gateway.errors import InvalidRequestError, LinkInvalidError, Problem
from gateway.links import Links
from gateway.settings import Settings
from gateway.storage import Storage

DIALECT: Final = "codia"
FILE_NAMES: Final = ("image", "file")
SCOPE: Final = "cutout"
CODES: Final[Mapping[str, int]] = {
    # The key, its credits and its limits.
    "missing_key": 1001,
    "unknown_key": 1002,
    "key_revoked": 1003,
    "insufficient_credits": 1004,
    "rate_limited": 1005,
    "too_many_at_once": 1006,
    "idempotency_mismatch": 1007,
    "idempotency_conflict": 1008,
    "key_not_allowed": 1009,
    "account_suspended": 1010,
    "conflict": 1011,
    # The input.
    "invalid_request": 2001,
    "url_unreachable": 2002,
    "url_not_allowed": 2003,
    "unsupported_format": 2004,
    "file_too_large": 2005,
    "too_many_pixels": 2006,
    "unreadable_image": 2007,
    "no_foreground": 2008,
    "unknown_model": 2009,
    "not_found": 2010,
    "method_not_allowed": 2011,
    "result_expired": 2012,
    "wrong_content_type": 2013,
    # Ours.
    "internal_error": 5000,
    "overloaded": 5001,
    "deadline_exceeded": 5002,
    "model_not_installed": 5003,
}


class RemoveBgForm(OptionsForm, kw_only=True, forbid_unknown_fields=True):
    """The JSON body; a multipart form has the same fields and may bring `image` instead."""

    image_url: Annotated[
        str | None,
        msgspec.Meta(
            description="The picture: http or https, from a public address.",
            examples=["https://example.com/product.jpg"],
        ),
    ] = None


def shape_problem(problem: Problem, words: str) -> Response[Any]:
    return Response(refusal_document(problem, words), status_code=problem.status)


def refusal_document(problem: Problem, words: str) -> dict[str, Any]:
    """Refuse with the same three keys: code not zero, no data."""
    return {"code": CODES[problem.code], "message": words, "data": None}


def answer_document(done: Finished, image_url: str) -> dict[str, Any]:
    return {
        "code": 0,
        "message": "ok",
        "data": {"image_url": image_url},
        "model": done.model,
        "confidence": done.confidence,
        "reasons": list(done.reasons),
        "warnings": list(done.warnings),
    }


async def codia_caller(request: Request[Any, Any, Any], door: NamedDependency[Door]) -> Caller:
    return await door.enter(request, bearer_of(request), scope=SCOPE, send_as=AS_BEARER)


class CodiaController(Controller):
    @post("/v1/open/remove_bg", status_code=200, dependencies={"caller": Provide(codia_caller)})
    async def remove_background(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        reception: NamedDependency[Reception],
        links: NamedDependency[Links],
    ) -> Response[dict[str, Any]]:
        """Cut out what `image_url` names, or what was uploaded."""
        kind = body_kind(request, JSON, MULTIPART)
        async with reception.read(request, caller, kind, RemoveBgForm, FILE_NAMES) as body:
            form = parse_form(body.fields, RemoveBgForm, is_text=kind == MULTIPART)
            done = await while_connected(request, answer_to(reception, caller, body, form))
        facts = facts_of(request)
        facts.job_id = done.job_id
        if not done.is_replayed:
            facts.charged_credits, facts.stages_ms = done.charged_credits, done.stages_ms
        image_url = links.sign(done.job_id, done.extension, link_ttl(done, reception.settings))
        headers = credit_headers(
            charged=done.charged_credits,
            remaining=await reception.door.remaining(caller, done.balance),
            is_replayed=done.is_replayed,
        )
        return Response(answer_document(done, image_url), headers=headers)

    @route("/r/{filename:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD])
    async def download(
        self,
        request: Request[Any, Any, Any],
        filename: FromPath[str],
        cutouts: NamedDependency[Cutouts],
        links: NamedDependency[Links],
        storage: NamedDependency[Storage],
    ) -> Response[Any]:
        """Give the cutout behind a signed link; the signature is the key."""
        stem, _, extension = filename.rpartition(".")
        try:
            job_id = UUID(stem)
        except ValueError:
            raise LinkInvalidError from None
        query = request.query_params
        links.verify(job_id, extension, query.get("expires", ""), query.get("signature", ""))
        job = await cutouts.find(job_id)
        facts_of(request).job_id = job_id
        return await answer_file(
            storage,
            job,
            f"{job_id}.{extension}",
            is_head=request.method == HttpMethod.HEAD,
            link_ends_at=datetime.fromtimestamp(int(query["expires"]), UTC),
        )


async def answer_to(
    reception: Reception, caller: Caller, body: Body, form: RemoveBgForm
) -> Finished:
    """Find the first answer under the Idempotency-Key, or make one."""
    if (form.image_url is None) == (body.file is None):
        raise InvalidRequestError("send image_url, or one file named image")
    asked = reception.ask(
        caller, body, form, dialect=DIALECT, model=reception.settings.default_model
    )
    if first := await reception.cutouts.replay(asked):
        return first
    asked = await reception.with_options(asked, body, form)
    if form.image_url is None:
        return await reception.cutouts.run(asked)
    with await reception.fetcher.fetch(form.image_url, caller.key.account_id) as source:
        return await reception.cutouts.run(replace(asked, source=source))


def link_ttl(done: Finished, settings: Settings) -> timedelta:
    """Count from the cutout's own time, so that a replayed answer is the first one to the letter.

    A link that is nearly over, or was, is signed anew: a replay is for whoever lost the answer. It
    never outlives its result.
    """
    now = datetime.now(UTC)
    ends_at = done.finished_at + settings.link_ttl
    if ends_at - now < settings.link_ttl / 10:
        ends_at = now + settings.link_ttl
    ends_at = min(ends_at, done.result_expires_at)
    # Half a second in: the clock of the signature is read a moment later and rounds down.
    return ends_at.replace(microsecond=500_000) - now
