"""What a key can pay with: its account's credits, within its own budget where it has one."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession

from billing.budgets import Budget, budget_of
from billing.errors import InsufficientCreditsError, KeyBudgetError
from billing.keys import KeyFacts
from billing.ledger import Balance


@dataclass(frozen=True, slots=True)
class Means:
    """The account's balance and the key's budget, at one moment."""

    balance: Balance
    budget: Budget | None

    @classmethod
    async def read(cls, db: AsyncSession, key: KeyFacts, balance: Balance) -> Self:
        """Add what the key's budget leaves to what the account has; one query, if it has one."""
        budget = await budget_of(db, key.api_key_id) if key.has_budget else None
        return cls(balance, budget)

    @property
    def remaining(self) -> int:
        """The credits that this key can spend, the account's credit limit aside."""
        available = self.balance.available
        return available if self.budget is None else min(available, self.budget.left)

    def refusal_of(self, price: int) -> InsufficientCreditsError | None:
        """Say why `price` cannot be paid; None where it can."""
        spendable = self.balance.available + self.balance.credit_limit
        if spendable < price:
            return InsufficientCreditsError(needed=price, available=spendable)
        if self.budget is not None and self.budget.left < price:
            return KeyBudgetError(
                needed=price, available=self.budget.left, renews_at=self.budget.period_end
            )
        return None
