"""What a key can pay with: its account's credits, within its own budget where it has one."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession

from billing.budgets import Budget, budget_of
from billing.errors import InsufficientCreditsError, KeyBudgetError
from billing.keys import KeyFacts
from billing.ledger import Balance
from billing.pricing import price_of


@dataclass(frozen=True, slots=True)
class Means:
    """The account's balance and the key's budget, at one moment."""

    balance: Balance
    budget: Budget | None

    @classmethod
    async def read(cls, db: AsyncSession, key: KeyFacts, balance: Balance) -> Self:
        """Add what the key's budget leaves to what the account has; one query, if it has one.

        A test key pays nothing: no budget holds it up.
        """
        is_bounded = key.has_budget and price_of(key.env) > 0
        budget = await budget_of(db, key.api_key_id) if is_bounded else None
        return cls(balance, budget)

    @property
    def remaining(self) -> int:
        """The available credits; with a budget, what it leaves of all that can be spent."""
        if self.budget is None:
            return self.balance.available
        return min(self._spendable, self.budget.left)

    @property
    def _spendable(self) -> int:
        return self.balance.available + self.balance.credit_limit

    def refusal_of(self, price: int) -> InsufficientCreditsError | None:
        """Say why `price` cannot be paid; None where it can."""
        if self._spendable < price:
            return InsufficientCreditsError(needed=price, available=self._spendable)
        if self.budget is not None and self.budget.left < price:
            return KeyBudgetError(
                needed=price, available=self.budget.left, renews_at=self.budget.period_end
            )
        return None
