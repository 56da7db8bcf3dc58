"""Bodies as they arrive: in pieces of any size, and nothing kept in memory that is large."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request
from litestar.exceptions import InternalServerException

from gateway.dialects import forms
from gateway.dialects.codia import RemoveBgForm
from gateway.dialects.forms import Body, OptionsForm, parse_form, read_json, read_multipart
from gateway.errors import InvalidRequestError, SourceTooLargeError

BOUNDARY = "a-boundary"
MIB = 2**20


class Arriving:
    """The part of a request that forms read: a content type, and a body in pieces."""

    content_type = ("multipart/form-data", {"boundary": BOUNDARY})

    def __init__(self, *pieces: bytes, pause_s: float = 0, hangs_up: bool = False) -> None:
        self._pieces = pieces
        self._pause_s = pause_s
        self._hangs_up = hangs_up

    async def stream(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(self._pause_s)
            yield piece
        if self._hangs_up:
            raise InternalServerException("client disconnected prematurely")
        yield b""


def request(*pieces: bytes, **how: Any) -> Request[Any, Any, Any]:
    return Arriving(*pieces, **how)  # type: ignore[return-value]  # the part that is read


def encoded(parts: dict[str, bytes]) -> bytes:
    body = b""
    for name, content in parts.items():
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `body` into pieces of these sizes, again and again."""
    pieces, at, turn = [], 0, 0
    while at < len(body):
        pieces.append(body[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return pieces


async def read(*pieces: bytes, bytes_max: int = 30 * MIB, **how: Any) -> Body:
    return await read_multipart(
        request(*pieces, **how),
        file_names=("image", "file"),
        field_names=OptionsForm.__struct_fields__,
        bytes_max=bytes_max,
        memory_bytes_max=MIB,
    )


@given(
    content=st.binary(min_size=1, max_size=2000),
    colour=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=5),
)
def test_a_form_is_the_same_however_it_is_cut(
    content: bytes, colour: str, sizes: list[int]
) -> None:
    whole = encoded({"file": content, "bg_color": colour.encode()})

    body = asyncio.run(read(*cut(whole, sizes)))

    assert body.file is not None
    assert body.file.read() == content
    assert body.file_sha256 == hashlib.sha256(content).hexdigest()
    assert body.fields == {"bg_color": colour}


async def test_a_large_upload_waits_on_disk() -> None:
    content = bytes(20 * MIB)
    body = await read(*cut(encoded({"file": content}), [64 * 1024]))
    assert body.file is not None
    assert body.file.is_spooled
    assert body.file.size_bytes == len(content)
    body.close()


async def test_an_upload_over_the_limit_is_refused_as_soon_as_it_is() -> None:
    whole = cut(encoded({"file": bytes(10 * MIB)}), [64 * 1024])
    with pytest.raises(SourceTooLargeError):
        await read(*whole, bytes_max=MIB)


async def test_an_empty_field_is_an_absent_one() -> None:
    body = await read(encoded({"model": b"", "format": b"webp"}))
    assert body.fields == {"format": "webp"}


@pytest.mark.parametrize(
    "whole",
    [
        encoded({"file": b"x"})[:-10],
        encoded({"format": b"x" * 10_000}),
        encoded({f"field-{n}": b"x" for n in range(40)}),
        encoded({"format": b"png"}).replace(b"--a-boundary--", b"") + encoded({"format": b"webp"}),
    ],
)
async def test_a_form_that_is_broken_or_too_much_is_refused(whole: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        await read(whole)


async def test_a_client_that_hangs_up_has_sent_no_request() -> None:
    with pytest.raises(InvalidRequestError, match="ended early"):
        await read(encoded({"file": b"x"})[:-10], hangs_up=True)


async def test_a_client_that_lets_us_wait_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forms, "CHUNK_DEADLINE_S", 0.05)
    with pytest.raises(InvalidRequestError, match="too slowly"):
        await read(encoded({"file": b"x"}), pause_s=1)


async def test_a_drip_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BODY_DEADLINE_S", 0.1)
    with pytest.raises(InvalidRequestError, match="too slowly"):
        await read(*cut(encoded({"file": bytes(1000)}), [1]), pause_s=0.01)


async def test_a_retry_has_the_same_fingerprint_and_another_request_has_not() -> None:
    first = await read(encoded({"file": b"x", "format": b"png"}))
    again = await read(encoded({"format": b"png", "file": b"x"}))
    other_file = await read(encoded({"file": b"y", "format": b"png"}))
    other_field = await read(encoded({"file": b"x", "format": b"webp"}))
    assert first.fingerprint() == again.fingerprint()
    assert len({one.fingerprint() for one in (first, other_file, other_field)}) == 3


async def test_a_json_body_is_an_object() -> None:
    body = await read_json(request(b'{"image_url": ', b'"https://example.com/a.jpg"}'))
    assert body.fields == {"image_url": "https://example.com/a.jpg"}


async def test_a_file_under_another_name_is_told_where_it_goes() -> None:
    whole = encoded({"photo": bytes(20_000)})
    whole = whole.replace(b'name="photo"', b'name="photo"; filename="photo.jpg"')
    with pytest.raises(InvalidRequestError) as refused:
        await read(whole)
    assert refused.value.why == "unknown field photo; the picture goes in image (or file)"


async def test_a_field_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="field format is longer than"):
        await read(encoded({"format": b"x" * 10_000}))
    with pytest.raises(InvalidRequestError, match="field format is not UTF-8"):
        await read(encoded({"format": b"\xff"}))


async def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(InvalidRequestError, match="the file is empty"):
        await read(encoded({"file": b""}))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"crop": "maybe"}, "crop must be true or false"),
        ({"format": "jpeg"}, "format must be one of png, webp, jpg, zip"),
        ({"roi": 5}, "roi must be text"),
        ({"colour": "red"}, "unknown field colour"),
        ({"crop_margn": "5px"}, "unknown field crop_margn; did you mean crop_margin?"),
        ({"url": "https://example.com"}, "unknown field url; the picture goes in file"),
        ({"confidence_min": 1.5}, "confidence_min must be a number from 0 to 1"),
        ({"confidence_min": "0.5"}, "confidence_min must be a number from 0 to 1"),
        ({"`- at `$.crop`": "red"}, "unknown field `- at `$.crop`"),
    ],
)
def test_a_value_that_is_refused_says_what_is_taken(fields: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_form(fields, OptionsForm, is_text=False)
    assert refused.value.why == why


@pytest.mark.parametrize("name", ["url", "link", "imageUrl", "image", "photo_url", "file"])
def test_a_link_under_another_name_is_told_where_it_goes(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_form({name: "https://example.com/a.jpg"}, RemoveBgForm, is_text=False)
    assert refused.value.why == f"unknown field {name}; the picture's link goes in image_url"


async def test_null_in_json_is_an_absent_field() -> None:
    body = await read_json(request(b'{"image_url": "x", "crop": null, "format": null}'))
    assert body.fields == {"image_url": "x"}
    bare = await read_json(request(b'{"image_url": "x"}'))
    assert body.fingerprint() == bare.fingerprint()


def test_text_may_spell_what_json_may_not() -> None:
    assert parse_form({"confidence_min": "0.5"}, OptionsForm, is_text=True).confidence_min == 0.5
    assert parse_form({"crop": "true"}, OptionsForm, is_text=True).crop
    with pytest.raises(InvalidRequestError, match="crop"):
        parse_form({"crop": "true"}, RemoveBgForm, is_text=False)
