"""What a call cost and what is left, in headers: the same in every dialect."""

from typing import Final

from billing.ledger import Balance

CHARGED: Final = "X-Credits-Charged"
HELD: Final = "X-Credits-Held"
REMAINING: Final = "X-Credits-Remaining"
REPLAYED: Final = "Idempotent-Replayed"


def credit_headers(
    balance: Balance, *, charged: int = 0, held: int = 0, is_replayed: bool = False
) -> dict[str, str]:
    headers = {CHARGED: str(charged), REMAINING: str(balance.available)}
    if held:
        headers[HELD] = str(held)
    if is_replayed:
        headers[REPLAYED] = "true"
    return headers
