"""What a cutout costs: the same whatever its size, its model or the dialect it was asked in."""

from typing import Final

CREDITS_PER_CUTOUT: Final = 25


def price_of(env: str) -> int:
    """Credits for one successful cutout under a key of `env`; test keys work for nothing."""
    return 0 if env == "test" else CREDITS_PER_CUTOUT
