"""Where an account's periods begin and end: months counted from its anchor, in UTC. Pure.

Each boundary is computed from the anchor and not from the boundary before it, so that an account
of 31 January renews on 28 (or 29) February and on 31 March again.
"""

import calendar
from datetime import UTC, datetime

MONTHS_A_YEAR = 12


def boundary(anchor_at: datetime, months: int) -> datetime:
    """Find the instant `months` after the anchor, on the month's last day where it is shorter."""
    anchor = anchor_at.astimezone(UTC)
    year, month0 = divmod(anchor.year * MONTHS_A_YEAR + anchor.month - 1 + months, MONTHS_A_YEAR)
    day = min(anchor.day, calendar.monthrange(year, month0 + 1)[1])
    return anchor.replace(year=year, month=month0 + 1, day=day)


def months_since(anchor_at: datetime, at: datetime) -> int:
    """Count the calendar months from the anchor's to that of a boundary `at`."""
    anchor, other = anchor_at.astimezone(UTC), at.astimezone(UTC)
    return (other.year - anchor.year) * MONTHS_A_YEAR + other.month - anchor.month


def boundary_after(anchor_at: datetime, at: datetime, months: int = 1) -> datetime:
    """Find the boundary that is `months` periods after the boundary `at`."""
    return boundary(anchor_at, months_since(anchor_at, at) + months)
