"""What was called: by day, by key, by model, by dialect; on the page and as CSV."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency

from billing.db import SessionFactory
from billing.key_lists import keys_among
from billing.spreadsheet import safe_cell
from billing.usage import UsageLine, usage
from gateway.console.overview import by_day
from gateway.console.ranges import Days, days_of, days_or_usual
from gateway.console.visitor import Visitor, shown
from gateway.web.pages import page

AnyRequest = Request[Any, Any, Any]
Name = tuple[str, str]
"""What it is called, and what tells it from others called the same."""
CSV_NAMES: Final = ("day", "key", "model", "dialect", "succeeded", "failed", "charged_credits")


@dataclass(frozen=True, slots=True)
class Share:
    """What one key, model or dialect had of it."""

    name: str
    detail: str
    succeeded: int
    failed: int
    charged_credits: int


class UsageController(Controller):
    @get("/usage")
    async def show(
        self,
        request: AnyRequest,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        query = request.query_params
        days, wrong = days_or_usual(query)
        lines, names = await _read(sessions, visitor, days)
        return page(
            "console/usage.html",
            status=wrong.status if wrong else 200,
            visitor=visitor,
            error=str(wrong or ""),
            said=query if wrong else {},
            days=days,
            by_day=by_day(days, lines),
            total=_share("", lines),
            by_key=_shares(lines, lambda line: names.get(line.api_key_id, ("", ""))),
            by_model=_shares(lines, lambda line: (line.model, "")),
            by_dialect=_shares(lines, lambda line: (line.dialect, "")),
        )

    @get("/usage.csv")
    async def download(
        self,
        request: AnyRequest,
        visitor: NamedDependency[Visitor],
        sessions: NamedDependency[SessionFactory],
    ) -> Response[str]:
        days = days_of(request.query_params)
        lines, names = await _read(sessions, visitor, days)
        return answer_csv(_csv(lines, names), f"usage-{days.first}-{days.last}.csv")


def answer_csv(text: str, name: str) -> Response[str]:
    disposition = f'attachment; filename="{name}"'
    return Response(text, media_type="text/csv", headers={"Content-Disposition": disposition})


async def _read(
    sessions: SessionFactory, visitor: Visitor, days: Days
) -> tuple[list[UsageLine], Mapping[UUID | None, Name]]:
    """Give the lines, and what to call each key."""
    async with sessions() as db:
        lines = await usage(db, visitor.account_id, since=days.since, until=days.until)
        keys = await keys_among(db, visitor.account_id, {line.api_key_id for line in lines})
    return lines, {key_id: (key.name or "unnamed", shown(key)) for key_id, key in keys.items()}


def _shares(lines: Sequence[UsageLine], name_of: Callable[[UsageLine], Name]) -> list[Share]:
    """Add up by name, most credits first."""
    groups: dict[Name, list[UsageLine]] = {}
    for line in lines:
        groups.setdefault(name_of(line), []).append(line)
    shares = [
        _share(name or "not known", group, detail) for (name, detail), group in groups.items()
    ]
    return sorted(shares, key=lambda share: (-share.charged_credits, -share.succeeded, share.name))


def _share(name: str, lines: Sequence[UsageLine], detail: str = "") -> Share:
    return Share(
        name,
        detail,
        succeeded=sum(line.succeeded for line in lines),
        failed=sum(line.failed for line in lines),
        charged_credits=sum(line.charged_credits for line in lines),
    )


def _csv(lines: Sequence[UsageLine], names: Mapping[UUID | None, Name]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_NAMES)
    for line in lines:
        cells = (" ".join(names.get(line.api_key_id, ())), line.model, line.dialect)
        numbers = (line.succeeded, line.failed, line.charged_credits)
        writer.writerow([line.day.isoformat(), *map(safe_cell, cells), *numbers])
    return out.getvalue()
