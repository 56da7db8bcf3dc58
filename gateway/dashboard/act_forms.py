"""What an act is made of: a form, what it means, and what is done with it.

Each act is one `Act`; `acts.py` walks all of them through form, confirmation and deed alike.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from billing.db import SessionFactory
from billing.keys import KeyHasher
from gateway.reruns import Reruns
from gateway.web.refusals import FormError

REASON_LENGTH_MIN: Final = 3
REASON_LENGTH_MAX: Final = 500
WORDS_LENGTH_MAX: Final = 2_000
NUMBER_MAX: Final = 10**12
DAY: Final = timedelta(days=1)
ID_START_MIN: Final = 8
"""Digits of an id, as tables show them."""
ID_START: Final = re.compile(rf"[0-9a-f]{{{ID_START_MIN},32}}")

Values = dict[str, Any]
Facts = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Field:
    """One question of a form. `kind` is the input's, or choice, plan, or fixed (by the address)."""

    name: str
    label: str
    kind: str = "text"
    hint: str = ""
    is_required: bool = True
    choices: tuple[tuple[str, str], ...] = ()
    value: str = ""
    smallest: int | None = None
    largest: int = NUMBER_MAX
    longest: int = WORDS_LENGTH_MAX

    def read(self, form: Mapping[str, Any]) -> Any:
        """Take an answer as what it is; None where none was given.

        Raises:
            FormError: it is missing, or no such thing.
        """
        said = plain(str(form.get(self.name, "")))
        if not said:
            if self.is_required:
                raise FormError(f"“{self.label}” is missing.")
            return None
        if len(said) > self.longest:
            raise FormError(f"“{self.label}” has at most {self.longest:,} characters.")
        return READERS.get(self.kind, _words)(self, said)


@dataclass(frozen=True, slots=True)
class Tools:
    """What acts need beside the database."""

    sessions: SessionFactory
    hasher: KeyHasher
    reruns: Reruns


@dataclass(frozen=True, slots=True)
class Deed:
    """One act that somebody wants done, once, to one account."""

    act_id: UUID
    account_id: UUID
    actor: str
    reason: str
    values: Values
    tools: Tools


Perform = Callable[[AsyncSession, Deed], Awaitable[str | None]]
"""Does it in a transaction that is not its own; gives what is shown once, such as a key's text."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody may do to an account.

    `describe` tells of what the act is about (a grant, a key, a job), and refuses what is not the
    account's. `preview` tells of the effect, by the labels of answers that it makes plainer.
    `execute` is for the one that cannot be done in a single transaction.
    """

    name: str
    title: str
    role: str
    perform: Perform
    done: str
    fields: tuple[Field, ...] = ()
    explains: str = ""
    is_danger: bool = False
    is_reason_told: bool = False
    """Whether the customer reads the reason, too."""
    describe: Callable[[AsyncSession, UUID, Values], Awaitable[Facts]] | None = None
    preview: Callable[[AsyncSession, Deed], Awaitable[Facts]] | None = None
    execute: Callable[[Deed], Awaitable[None]] | None = None
    """Instead of `perform`, which is then only rehearsed; claims the act's id itself."""

    @property
    def subject(self) -> Field | None:
        """The field that says what the act is about, where it is about more than the account."""
        fixed = [field for field in self.fields if field.kind == "fixed"]
        return fixed[0] if fixed else None


def plain(said: str) -> str:
    """Take the blanks around it away, and what the database can keep in no text."""
    return said.replace("\x00", "").strip()


def read_reason(form: Mapping[str, Any]) -> str:
    """Take the reason, which every act has.

    Raises:
        FormError: it is missing or too long.
    """
    reason = plain(str(form.get("reason", "")))
    if not REASON_LENGTH_MIN <= len(reason) <= REASON_LENGTH_MAX:
        raise FormError(
            f"A reason has {REASON_LENGTH_MIN} to {REASON_LENGTH_MAX} characters: it is what the"
            " audit trail tells of this."
        )
    return reason


def _words(_: Field, said: str) -> str:
    return said


def _number(field: Field, said: str) -> int:
    try:
        number = int(said.replace(",", "").replace("−", "-"))
    except ValueError:
        raise FormError(f"“{field.label}” is a whole number.") from None
    if field.smallest is not None and number < field.smallest:
        raise FormError(f"“{field.label}” is a whole number of at least {field.smallest:,}.")
    if number < -field.largest:
        raise FormError(f"“{field.label}” is a whole number of at least −{field.largest:,}.")
    if number > field.largest:
        raise FormError(f"“{field.label}” is a whole number of at most {field.largest:,}.")
    return number


def _day(field: Field, said: str) -> datetime:
    """Read a day as its end, since that is what “until” means to people; UTC."""
    try:
        return datetime.strptime(said, "%Y-%m-%d").replace(tzinfo=UTC) + DAY
    except (ValueError, OverflowError):
        words = f"“{field.label}” is a day, such as 2026-12-31, and no later than 9999-12-30."
        raise FormError(words) from None


def _choice(field: Field, said: str) -> str:
    if said not in {value for value, _ in field.choices}:
        raise FormError(f"“{field.label}” is none of the choices.")
    return said


def _id_start(field: Field, said: str) -> str:
    """Read as much of an id as tells it from others; plain hex digits."""
    digits = said.replace("-", "").lower()
    if ID_START.fullmatch(digits) is None:
        words = f"“{field.label}” is an id, or its first {ID_START_MIN} characters at least."
        raise FormError(words)
    return digits


def _id(field: Field, said: str) -> UUID:
    try:
        return UUID(said)
    except ValueError:
        raise FormError(f"“{field.label}” is an id, as its page shows it.") from None


READERS: Final[Mapping[str, Callable[[Field, str], Any]]] = {
    "number": _number,
    "date": _day,
    "choice": _choice,
    "fixed": _id,
    "id": _id_start,
}
