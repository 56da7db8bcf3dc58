"""The days that a page looks at, as its address says them; both ends belong to it, in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from urllib.parse import urlencode

from gateway.web.refusals import FormError

DAYS_USUAL: Final = 30
DAYS_MAX: Final = 366
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """From the first day to the last, both whole."""

    first: date
    last: date

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        """The midnight that ends the last day, which is no part of it."""
        return datetime.combine(self.last, time(), UTC) + DAY

    @property
    def query(self) -> str:
        return urlencode({"from": self.first.isoformat(), "to": self.last.isoformat()})

    def each(self) -> list[date]:
        return [self.first + n * DAY for n in range((self.last - self.first).days + 1)]


def days_of(query: Mapping[str, str], *, usual: int = DAYS_USUAL) -> Days:
    """Read `from` and `to`: the last `usual` days unless they say otherwise.

    Raises:
        FormError: no dates, the wrong way round, or more than a year.
    """
    last = _date(query["to"], "To") if query.get("to") else datetime.now(UTC).date()
    first = _date(query["from"], "From") if query.get("from") else _before(last, usual)
    if not 0 <= (last - first).days < DAYS_MAX:
        raise FormError(f"“From” comes before “To”, and they are at most {DAYS_MAX} days apart.")
    return Days(first, last)


def days_or_usual(query: Mapping[str, str]) -> tuple[Days, FormError | None]:
    """Read `from` and `to`; where they make no sense the usual days, and what is wrong."""
    try:
        return days_of(query), None
    except FormError as wrong:
        return days_of({}), wrong


def _before(last: date, days: int) -> date:
    try:
        return last - (days - 1) * DAY
    except OverflowError:
        raise FormError("“To” is too long ago.") from None


def _date(said: str, label: str) -> date:
    try:
        day = date.fromisoformat(said)
        datetime.combine(day, time(), UTC) + DAY  # the end of days has no next
    except (ValueError, OverflowError):
        raise FormError(f"“{label}” is a date, such as 2026-11-20.") from None
    return day
