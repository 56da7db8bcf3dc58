"""What the OpenAPI document is put together from: headers, parameters, answers, refusals."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from core.confidence import REASONS
from gateway.dialects.forms import JSON
from gateway.dialects.words import BY_CODE
from gateway.errors import Problem

Document = dict[str, Any]

HEADERS: Final[Mapping[str, tuple[str, Any]]] = {
    "X-Request-Id": ("Yours, if you sent one, else ours: in every log line of ours.", "a1b2c3"),
    "RateLimit-Policy": (
        "`q` calls at once, all of them back after `w` seconds.",
        '"default";q=60;w=12',
    ),
    "RateLimit": (
        "`r` calls left now; `t` seconds until the limit is whole again.",
        '"default";r=59;t=1',
    ),
    "Retry-After": (
        "The earliest at which to ask again, in seconds; of a rate, when the call will be taken.",
        2,
    ),
    "X-Credits-Charged": ("Credits that this call cost; 0 of a refusal.", 25),
    "X-Credits-Held": ("Credits set aside until the task ends.", 25),
    "X-Credits-Remaining": (
        "Credits that this key can spend: the account's, or fewer where its own budget says so.",
        49975,
    ),
    "Idempotent-Replayed": (
        "`true`: this is the first answer again, and cost nothing more.",
        "true",
    ),
    "Cache-Control": (
        "`private`, for as long as the link and the result live.",
        "private, max-age=3600",
    ),
    "X-Content-Type-Options": ("Always `nosniff`.", "nosniff"),
}
TYPE_NAMES: Final = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
EVERYWHERE: Final = ("X-Request-Id", "X-Content-Type-Options")
KEYED: Final = (*EVERYWHERE, "RateLimit-Policy", "RateLimit")
WAITING_HELPS: Final = frozenset({409, 429, 503})


def components() -> Document:
    return {
        "headers": {
            name: {"description": text, "schema": schema_of(example), "example": example}
            for name, (text, example) in HEADERS.items()
        },
        "parameters": {
            "IdempotencyKey": parameter(
                "Idempotency-Key",
                "header",
                "Makes a retry the same call: charged once, answered alike.",
                {"type": "string", "maxLength": 255},
                "order-1042-photo-3",
            ),
            "RequestId": parameter(
                "X-Request-Id",
                "header",
                "Your own id of this request; comes back.",
                {"type": "string", "maxLength": 128},
                "a1b2c3",
            ),
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        },
    }


def parameter(name: str, place: str, text: str, schema: Document, example: Any) -> Document:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": text,
        "schema": schema,
        "example": example,
    }


def answer(text: str, headers: Iterable[str], examples: Mapping[str, Any]) -> Document:
    """Answer in JSON; its schema is what the examples have in common."""
    return {
        "description": text,
        "headers": references(headers),
        "content": {JSON: body(examples)},
    }


def body(examples: Mapping[str, Any]) -> Document:
    schemas = [schema_of(example) for example in examples.values()]
    return {
        "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
        "examples": {name: {"value": example} for name, example in examples.items()},
    }


def file_answer(text: str, headers: Iterable[str], media_types: Iterable[str]) -> Document:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": text,
        "headers": references(headers),
        "content": dict.fromkeys(media_types, binary),
    }


def refusals(
    codes: Iterable[str],
    headers: Iterable[str],
    shape: Callable[[Problem, str], Document],
    media_type: str = JSON,
) -> Document:
    """Show each refusal, by status, in the dialect's shape."""
    by_status: dict[int, dict[str, Document]] = {}
    for code in codes:
        problem = BY_CODE[code]
        by_status.setdefault(problem.status, {})[code] = shape(problem, problem.title)
    return {
        str(status): {
            "description": ", ".join(examples),
            "headers": references(
                (*headers, *(("Retry-After",) if status in WAITING_HELPS else ()))
            ),
            "content": {media_type: body(examples)},
        }
        for status, examples in sorted(by_status.items())
    }


def references(headers: Iterable[str]) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def schema_of(example: Any) -> Document:
    """Describe the type of `example`; every key that it has is required."""
    if isinstance(example, dict):
        return {
            "type": "object",
            "required": list(example),
            "properties": {name: schema_of(value) for name, value in example.items()},
        }
    if isinstance(example, list):
        if all(one in REASONS for one in example):
            return {"type": "array", "items": {"type": "string", "enum": list(REASONS)}}
        return {"type": "array", "items": schema_of(example[0])}
    return {"type": TYPE_NAMES[type(example)]}
