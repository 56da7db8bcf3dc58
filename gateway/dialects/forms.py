"""Bodies in: JSON and multipart, streamed, counted, and checked against one set of options.

An upload goes from the socket into its spool as it arrives: a request never holds more of it in
memory than `spool_bytes_max`, and the form around it is bounded by constants of this module.
"""

import asyncio
import difflib
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NoReturn,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from core import CutoutOptions
from gateway.errors import ContentTypeError, InvalidRequestError, SourceTooLargeError
from gateway.source import Source, spool

JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
JSON_BYTES_MAX: Final = 64 * 1024
FIELD_BYTES_MAX: Final = 8 * 1024
PARTS_MAX: Final = 32
NAME_SHOWN_MAX: Final = 64
"""Of a stranger's field name, so that what follows it is still read."""
LINK_NAME: Final = re.compile(
    r"(image|picture|photo|source|src|input|file)?[_-]?(url|link|uri)|image|picture|photo|file",
    re.IGNORECASE,
)
"""What a picture's link is called elsewhere."""
ALIKE_MIN: Final = 0.75
"""How much of a misspelt name is that of the field that was meant."""
FORM_SLACK_BYTES: Final = 256 * 1024
"""What a body may weigh beyond its file: boundaries, part headers, fields."""

CHUNK_DEADLINE_S: Final = 30.0
BODY_DEADLINE_S: Final = 300.0
"""An upload may be slow; one that never ends would keep its place for ever."""

AnyRequest = Request[Any, Any, Any]
AnyForm = TypeVar("AnyForm", bound="OptionsForm")


class OptionsForm(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The options of both dialects, by the same names; defaults as the contracts behave."""

    model: Annotated[
        str | None,
        msgspec.Meta(
            description="The weights to use, or `auto`; the answer names what ran.",
            examples=["u2net"],
        ),
    ] = None
    transparency: Annotated[
        Literal["background", "flatten", "keep"],
        msgspec.Meta(
            description="What the source's own transparent pixels are: background, first flattened"
            " onto white, or kept as they are.",
        ),
    ] = "background"
    format: Annotated[
        Literal["png", "webp", "jpg", "zip"],
        msgspec.Meta(description="Of the result; `zip` holds colour and alpha apart."),
    ] = "png"
    bg_color: Annotated[
        str | None,
        msgspec.Meta(
            description="Laid under the subject: hex digits, or a CSS name.", examples=["#111111"]
        ),
    ] = None
    bg_image_url: Annotated[
        str | None,
        msgspec.Meta(
            description="A picture to lay under the subject.",
            examples=["https://example.com/backdrop.jpg"],
        ),
    ] = None
    crop: Annotated[bool, msgspec.Meta(description="Crop to the subject.")] = False
    crop_margin: Annotated[
        str | None,
        msgspec.Meta(
            description="Around the cropped subject: 1, 2 or 4 lengths in px or %.",
            examples=["10px 5%"],
        ),
    ] = None
    channels: Annotated[
        Literal["rgba", "alpha"], msgspec.Meta(description="`alpha` answers the matte alone.")
    ] = "rgba"
    roi: Annotated[
        str | None,
        msgspec.Meta(
            description="Look for the subject in this part only: x1 y1 x2 y2 in px or %.",
            examples=["10% 10% 90% 90%"],
        ),
    ] = None
    clothes: Annotated[
        Literal["all", "upper", "lower", "full"],
        msgspec.Meta(description="Which clothes `u2net_cloth_seg` cuts out."),
    ] = "all"
    confidence_min: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            description="Below this confidence the call fails with `no_foreground`, and is free.",
            examples=[0.5],
        ),
    ] = 0.0
    webhook_url: Annotated[
        str | None,
        msgspec.Meta(
            description="Where the job's end is told, signed: http or https, a public address.",
            examples=["https://example.com/webhooks/cutout"],
        ),
    ] = None

    def options(self) -> CutoutOptions:
        """Choose as the form does, its background image excepted.

        Raises:
            InvalidOptionError: a value that cannot be honoured, or two that contradict each other.
        """
        return CutoutOptions(
            transparency=self.transparency,
            format=self.format,
            bg_color=self.bg_color,
            crop=self.crop,
            crop_margin=self.crop_margin,
            channels=self.channels,
            roi=self.roi,
            clothes=self.clothes,
            confidence_min=self.confidence_min,
        )


@dataclass(slots=True)
class Body:
    """A parsed body: its fields, and its one file where it has one."""

    fields: dict[str, Any] = field(default_factory=dict)
    file: Source | None = None
    file_sha256: str = ""
    background: Source | None = None
    """What `bg_image_url` names, once it was fetched."""
    idempotency_key: str | None = None

    def fingerprint(self) -> str:
        """Hash what was asked, so that a retry is told from another request under the same key.

        Not the bytes as sent: a multipart boundary differs from one retry to the next.
        """
        asked = json.dumps([self.fields, self.file_sha256], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    def close(self) -> None:
        for source in (self.file, self.background):
            if source is not None:
                source.close()


def body_kind(request: AnyRequest, *accepted: str) -> str:
    """Tell which of the `accepted` content types the body has.

    Raises:
        ContentTypeError: another, or none.
    """
    kind, _ = request.content_type
    if kind not in accepted:
        raise ContentTypeError(*accepted)
    return kind


async def read_json(request: AnyRequest) -> Body:
    """Read a JSON object; a field that is null is an absent one.

    Raises:
        SourceTooLargeError: more than `JSON_BYTES_MAX`.
        InvalidRequestError: no body, not JSON, or not an object.
    """
    text = bytearray()
    async for chunk in _chunks(request):
        text += chunk
        if len(text) > JSON_BYTES_MAX:
            raise SourceTooLargeError(JSON_BYTES_MAX)
    if not text:
        raise InvalidRequestError("the body is empty")
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequestError("the body is not valid JSON") from None
    if not isinstance(fields, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return Body({name: value for name, value in fields.items() if value is not None})


async def read_multipart(
    request: AnyRequest,
    *,
    file_names: Sequence[str],
    field_names: Collection[str],
    bytes_max: int,
    memory_bytes_max: int,
) -> Body:
    """Read a form as it arrives; the part named as one of `file_names` is spooled.

    An empty field is an absent one, as browsers and `-F name=` send it.

    Raises:
        SourceTooLargeError: the file is longer than `bytes_max`, or the form than its limits.
        InvalidRequestError: not multipart, cut off, a part twice, or a file that is empty or under
            a name that is neither a file's nor a field's.
    """
    _, parameters = request.content_type
    chunks = _chunks(request)
    body = Body()

    async def read(_: int) -> bytes:
        return await anext(chunks, b"")

    try:
        parser = PushMultipartParser(parameters.get("boundary", ""), max_segment_count=PARTS_MAX)
        events = parser.parse_async(read)
        async for event in events:
            if not isinstance(event, MultipartSegment):
                continue
            if event.name in file_names:
                await _take_file(body, _payload(events), bytes_max, memory_bytes_max)
            elif event.filename and event.name not in field_names:
                _refuse_misplaced(event.name, file_names)
            else:
                await _take_field(body, event.name, _payload(events))
    except MultipartError:
        body.close()
        raise InvalidRequestError("the body is not valid multipart/form-data") from None
    except BaseException:
        body.close()
        raise
    return body


async def _take_file(
    body: Body, payload: AsyncIterator[bytes], bytes_max: int, memory_bytes_max: int
) -> None:
    if body.file is not None:
        raise InvalidRequestError("one file per request")
    digest = hashlib.sha256()
    body.file = await spool(
        _digested(payload, digest), bytes_max, memory_bytes_max=memory_bytes_max
    )
    body.file_sha256 = digest.hexdigest()
    if body.file.size_bytes == 0:
        raise InvalidRequestError("the file is empty")


def _refuse_misplaced(name: str, file_names: Sequence[str]) -> NoReturn:
    usual, *others = file_names
    place = f"{usual} (or {' or '.join(others)})" if others else usual
    raise InvalidRequestError(f"unknown field {name[:NAME_SHOWN_MAX]}; the picture goes in {place}")


async def _take_field(body: Body, name: str, payload: AsyncIterator[bytes]) -> None:
    text = bytearray()
    async for chunk in payload:
        text += chunk
        if len(text) > FIELD_BYTES_MAX:
            raise InvalidRequestError(f"{_named(name)} is longer than {FIELD_BYTES_MAX} bytes")
    if name in body.fields:
        raise InvalidRequestError(f"{_named(name)} was sent twice")
    try:
        value = text.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{_named(name)} is not UTF-8") from None
    if value:
        body.fields[name] = value


def _named(name: str) -> str:
    return f"field {name[:NAME_SHOWN_MAX]}"


async def _payload(events: AsyncGenerator[Any, None]) -> AsyncIterator[bytes]:
    """Yield one part's bytes; the parser marks its end by a None."""
    async for event in events:
        if event is None:
            return
        yield event


async def _digested(chunks: AsyncIterator[bytes], digest: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk


async def _chunks(request: AnyRequest) -> AsyncIterator[bytes]:
    """Give the body as it comes, as long as it keeps coming.

    Raises:
        InvalidRequestError: the client hung up, or lets us wait.
    """
    stream = request.stream()
    give_up_at = asyncio.get_running_loop().time() + BODY_DEADLINE_S
    try:
        while True:
            async with asyncio.timeout(CHUNK_DEADLINE_S), asyncio.timeout_at(give_up_at):
                chunk = await anext(stream, b"")
            if not chunk:
                return
            yield chunk
    except TimeoutError:
        raise InvalidRequestError("the body came too slowly") from None
    except InternalServerException:
        # Litestar's word for a client that hung up; nobody reads the answer.
        raise InvalidRequestError("the body ended early") from None


def parse_form(fields: Mapping[str, Any], form: type[AnyForm], *, is_text: bool) -> AnyForm:
    """Check `fields` against `form`; text fields may spell booleans and numbers.

    Raises:
        InvalidRequestError: says which field and why.
    """
    if unknown := [name for name in fields if name not in form.__struct_fields__]:
        raise InvalidRequestError(_unknown(unknown[0], form))
    try:
        return msgspec.convert(fields, form, strict=not is_text)
    except msgspec.ValidationError as exc:
        name = str(exc).rpartition("`$.")[2].rstrip("`")
        raise InvalidRequestError(f"{name} must be {_taken_by(form, name)}") from None


def _unknown(name: str, form: type[OptionsForm]) -> str:
    """Say that there is no field `name`, and what was probably meant."""
    names = form.__struct_fields__
    said = f"unknown field {name[:NAME_SHOWN_MAX]}"
    if LINK_NAME.fullmatch(name):
        place = "the picture's link goes in image_url"
        return f"{said}; {place if 'image_url' in names else 'the picture goes in file'}"
    alike = difflib.get_close_matches(name[:NAME_SHOWN_MAX].lower(), names, 1, ALIKE_MIN)
    return f"{said}; did you mean {alike[0]}?" if alike else said


def _taken_by(form: type[OptionsForm], name: str) -> str:
    """Say what the field `name` takes."""
    kind = get_type_hints(form)[name]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return {bool: "true or false", float: "a number from 0 to 1"}.get(kind, "text")
