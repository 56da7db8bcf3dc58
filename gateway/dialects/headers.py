"""What a call cost and what is left, in headers: the same in every dialect."""

from typing import Final

CHARGED: Final = "X-Credits-Charged"
HELD: Final = "X-Credits-Held"
REMAINING: Final = "X-Credits-Remaining"
REPLAYED: Final = "Idempotent-Replayed"


def credit_headers(
    *,
    charged: int | None = 0,
    remaining: int | None = None,
    held: int | None = None,
    is_replayed: bool = False,
) -> dict[str, str]:
    """Write what is known; None stands for what is not, or does not belong to the answer."""
    counts = {CHARGED: charged, REMAINING: remaining, HELD: held}
    headers = {name: str(count) for name, count in counts.items() if count is not None}
    if is_replayed:
        headers[REPLAYED] = "true"
    return headers
