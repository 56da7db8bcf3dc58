"""The OpenAPI document, made from the forms, the table of problems and the dialects' own shapes.

Written here rather than derived from handlers, which stream their bodies and answer contracts that
are fixed elsewhere. Tests hold it to the routes, the forms and the problems there are, and replay
what it promises.
"""

from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Controller, HttpMethod, Request, Response, route
from litestar.di import NamedDependency

from gateway.dialects import account, codia, openapi_examples, reports, revid_documents
from gateway.dialects.forms import JSON, MULTIPART, OptionsForm
from gateway.dialects.openapi_parts import (
    EVERYWHERE,
    KEYED,
    Document,
    answer,
    body,
    components,
    file_answer,
    parameter,
    references,
    refusals,
)
from gateway.settings import Settings

KEY_CODES: Final = ("missing_key", "unknown_key", "key_revoked", "key_not_allowed", "rate_limited")
OUR_CODES: Final = ("internal_error", "overloaded")
CALL_CODES: Final = (
    *KEY_CODES,
    *OUR_CODES,
    "account_suspended",
    "insufficient_credits",
    "too_many_at_once",
    "idempotency_mismatch",
    "idempotency_conflict",
    "conflict",
    "invalid_request",
    "wrong_content_type",
    "url_unreachable",
    "url_not_allowed",
    "file_too_large",
    "too_many_pixels",
    "unknown_model",
    "model_not_installed",
)
BACKGROUND_CODES: Final = ("unsupported_format", "unreadable_image")
"""Of `bg_image_url`; of the picture itself they are a failed task's in the Revid dialect."""
PICTURE_CODES: Final = (*BACKGROUND_CODES, "no_foreground", "deadline_exceeded")
READ_CODES: Final = ("not_found", "rate_limited", *OUR_CODES)
CREDITS: Final = ("X-Credits-Charged", "X-Credits-Remaining")
REFUSED: Final = (*KEYED, *CREDITS)
"""What a refused call carries, once its key is known; `X-Credits-Remaining` if it was looked at."""
PICTURES: Final = ("image/png", "image/webp", "image/jpeg", "application/zip")
CALL_PARAMETERS: Final = [
    {"$ref": "#/components/parameters/IdempotencyKey"},
    {"$ref": "#/components/parameters/RequestId"},
]
BEARER: Final[list[Document]] = [{"bearer": []}]
X_API_KEY: Final[list[Document]] = [{"x-api-key": []}]


def document(public_url: str) -> Document:
    _, definitions = msgspec.json.schema_components(
        [codia.RemoveBgForm, OptionsForm], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cutout Gateway",
            "version": version("cutout-gateway"),
            "description": "Background removal by the credit: 25 for each cutout delivered.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url}],
        "paths": {
            "/v1/open/remove_bg": {"post": _remove_background(definitions)},
            "/r/{filename}": {"get": _download_by_link()},
            "/paid/image/remove/background": {"post": _start_removal(definitions)},
            "/api/get/{task_id}": {"get": _read_task(), "delete": _cancel_task()},
            "/output/{filename}": {"get": _download_output()},
            "/v1/account": {"get": _read_account()},
            "/v1/usage": {"get": _read_usage()},
            "/v1/statement.csv": {"get": _read_statement()},
        },
        "webhooks": {name: {"post": _event(name)} for name in openapi_examples.WEBHOOKS},
        "components": components() | {"schemas": definitions},
    }


def _remove_background(definitions: Document) -> Document:
    form = definitions[codia.RemoveBgForm.__name__]
    return {
        "operationId": "removeBackground",
        "tags": ["Codia"],
        "summary": "Cut the subject out of a picture and answer a link to it.",
        "security": BEARER,
        "parameters": CALL_PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"$ref": f"#/components/schemas/{codia.RemoveBgForm.__name__}"},
                    "examples": {"seed": {"value": openapi_examples.CODIA_REQUEST}},
                },
                MULTIPART: {"schema": _with_file(form, "image")},
            },
        },
        "responses": {
            "200": answer(
                "The cutout's link: signed, expiring, needing no key.",
                (*KEYED, *CREDITS, "Idempotent-Replayed"),
                {"ok": openapi_examples.CODIA_OK},
            ),
            **refusals((*CALL_CODES, *PICTURE_CODES), REFUSED, codia.refusal_document),
        },
    }


def _start_removal(definitions: Document) -> Document:
    form = definitions[OptionsForm.__name__]
    return {
        "operationId": "startRemoval",
        "tags": ["Revid"],
        "summary": "Upload a picture; answer a task at once.",
        "security": X_API_KEY,
        "parameters": CALL_PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {MULTIPART: {"schema": _with_file(form, "file", is_required=True)}},
        },
        "responses": {
            "200": answer(
                "The task and its hold are committed.",
                (*KEYED, *CREDITS, "X-Credits-Held", "Idempotent-Replayed"),
                {"created": openapi_examples.REVID_CREATED},
            ),
            **refusals((*CALL_CODES, *BACKGROUND_CODES), REFUSED, revid_documents.refusal_document),
        },
    }


def _read_task() -> Document:
    return {
        "operationId": "readTask",
        "tags": ["Revid"],
        "summary": "Tell how a task stands. Needs its id; a key sent along must be its owner's.",
        "security": [{}, *X_API_KEY],
        "parameters": [
            _path("task_id", openapi_examples.TASK_ID),
            parameter(
                "wait",
                "query",
                "Answer once the task has ended, or after so many seconds; at most 30.",
                {"type": "number", "minimum": 0},
                20,
            ),
        ],
        "responses": {
            "200": answer(
                "How it stands.", (*EVERYWHERE, "X-Credits-Charged"), openapi_examples.TASKS
            ),
            **refusals(
                (*READ_CODES, "invalid_request"), EVERYWHERE, revid_documents.refusal_document
            ),
        },
    }


def _cancel_task() -> Document:
    return {
        "operationId": "cancelTask",
        "tags": ["Revid"],
        "summary": "Cancel a task that still waits, and release its hold.",
        "security": X_API_KEY,
        "parameters": [_path("task_id", openapi_examples.TASK_ID)],
        "responses": {
            "200": answer(
                "How it ended: canceled, now or before, or as it had ended already.",
                (*KEYED, "X-Credits-Charged"),
                openapi_examples.TASKS,
            ),
            **refusals(
                (*KEY_CODES, *OUR_CODES, "not_found", "conflict"),
                KEYED,
                revid_documents.refusal_document,
            ),
        },
    }


def _download_output() -> Document:
    return {
        "operationId": "downloadOutput",
        "tags": ["Revid"],
        "summary": "The cutout of a completed task, until it expires.",
        "security": [{}, *X_API_KEY],
        "parameters": [_path("filename", f"{openapi_examples.TASK_ID}_output.png")],
        "responses": {
            "200": file_answer("The cutout.", (*EVERYWHERE, "Cache-Control"), PICTURES),
            **refusals(
                (*READ_CODES, "result_expired"), EVERYWHERE, revid_documents.refusal_document
            ),
        },
    }


def _download_by_link() -> Document:
    text = {"type": "string"}
    return {
        "operationId": "downloadByLink",
        "tags": ["Codia"],
        "summary": "The cutout behind a signed link, until the link expires.",
        "security": [{}],
        "parameters": [
            _path("filename", f"{openapi_examples.TASK_ID}.png"),
            parameter("expires", "query", "Unix time.", text, "1795172400"),
            parameter("signature", "query", "Ours.", text, openapi_examples.SIGNATURE),
        ],
        "responses": {
            "200": file_answer("The cutout.", (*EVERYWHERE, "Cache-Control"), PICTURES),
            **refusals(
                ("not_found", "result_expired", *OUR_CODES), EVERYWHERE, codia.refusal_document
            ),
        },
    }


def _read_account() -> Document:
    return {
        "operationId": "readAccount",
        "tags": ["Account"],
        "summary": "What a call costs, what the account has, what the key may do.",
        "security": [*BEARER, *X_API_KEY],
        "responses": {
            "200": answer(
                "The account of the key.",
                (*KEYED, "X-Credits-Remaining"),
                openapi_examples.ACCOUNTS,
            ),
            **refusals(
                (*KEY_CODES, *OUR_CODES), KEYED, account.refusal_document, account.PROBLEM_JSON
            ),
        },
    }


def _read_usage() -> Document:
    return {
        "operationId": "readUsage",
        "tags": ["Account"],
        "summary": "The account's calls by day (UTC), key, model and dialect.",
        "security": [*BEARER, *X_API_KEY],
        "parameters": _span(),
        "responses": {
            "200": answer("What was called.", KEYED, {"usual": openapi_examples.USAGE}),
            **_own_refusals(),
        },
    }


def _read_statement() -> Document:
    text = {"schema": {"type": "string"}, "example": openapi_examples.STATEMENT}
    return {
        "operationId": "readStatement",
        "tags": ["Account"],
        "summary": "Every movement of the account's credits, with the balance after each.",
        "security": [*BEARER, *X_API_KEY],
        "parameters": _span(),
        "responses": {
            "200": {
                "description": "The amounts sum to what the balance has changed by.",
                "headers": references(KEYED),
                "content": {f"{reports.CSV}; charset=utf-8": text},
            },
            **_own_refusals(),
        },
    }


def _event(name: str) -> Document:
    """Say what we send: to `webhook_url`, or to the account's URL of alerts."""
    text = {"type": "string"}
    return {
        "operationId": name,
        "tags": ["Webhooks"],
        "summary": "Signed as Standard Webhooks has it; tried for a day, at least once.",
        "parameters": [
            parameter("webhook-id", "header", "The same at each attempt.", text, "msg_2f"),
            parameter("webhook-timestamp", "header", "Unix time.", text, "1795172400"),
            parameter("webhook-signature", "header", "One or two.", text, "v1,K5oZfz…="),
        ],
        "requestBody": {
            "required": True,
            "content": {JSON: body({"event": openapi_examples.WEBHOOKS[name]})},
        },
        "responses": {"2XX": {"description": "Heard. Anything else: it is told again."}},
    }


def _span() -> list[Document]:
    text = {"type": "string"}
    return [
        parameter(
            "from", "query", "A date or a time, UTC; 30 days before `to`.", text, "2026-11-01"
        ),
        parameter("to", "query", "Up to here, not included; now.", text, "2026-11-21T00:00:00Z"),
    ]


def _own_refusals() -> Document:
    codes = (*KEY_CODES, *OUR_CODES, "invalid_request")
    return refusals(codes, KEYED, account.refusal_document, account.PROBLEM_JSON)


def _with_file(form: Document, name: str, *, is_required: bool = False) -> Document:
    """Add the upload to a form's fields; a picture's URL is one of them where it may be both."""
    upload = {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP or BMP."}
    required = {"required": [name]} if is_required else {}
    return form | {"properties": {name: upload, **form["properties"]}} | required


def _path(name: str, example: str) -> Document:
    return parameter(name, "path", "From an earlier answer.", {"type": "string"}, example)


class SchemaController(Controller):
    @route(
        ["/schema", "/schema/openapi.json"],
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        sync_to_thread=False,
    )
    def read_schema(
        self, request: Request[Any, Any, Any], settings: NamedDependency[Settings]
    ) -> Response[Any]:
        is_head = request.method == HttpMethod.HEAD
        content = b"" if is_head else document(settings.public_url)
        return Response(content, media_type="application/vnd.oai.openapi+json")
