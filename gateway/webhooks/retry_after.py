"""How long a receiver asks not to be called: the `Retry-After` of its 429 or 503."""

import email.utils
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

HEEDED: Final = frozenset({429, 503})
"""The answers that mean "later"; elsewhere the header says nothing about us."""
SECONDS_DIGITS_MAX: Final = 9
WAIT_MAX: Final = timedelta(days=1)

Headers = Sequence[tuple[bytes, bytes]]


def wait_asked(status: int, headers: Headers, now: datetime) -> timedelta | None:
    """Read the wait, as seconds or as a date; None where none is asked for or it is no time.

    A date is held against the receiver's own `Date`, so that its clock may be wrong.

    Source: RFC 9110, section 10.2.3.
    """
    written = _text(headers, b"retry-after") if status in HEEDED else None
    if written is None:
        return None
    if written.isascii() and written.isdigit():
        seconds = int(written[:SECONDS_DIGITS_MAX])
        return min(timedelta(seconds=seconds), WAIT_MAX)
    until = _moment(written)
    if until is None:
        return None
    wait = until - (_moment(_text(headers, b"date") or "") or now)
    return min(max(wait, timedelta(0)), WAIT_MAX)


def _text(headers: Headers, name: bytes) -> str | None:
    values = [value for key, value in headers if key.lower() == name]
    return values[0].decode("latin-1").strip() if values else None


def _moment(written: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(written)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
