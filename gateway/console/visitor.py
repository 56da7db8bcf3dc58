"""Who is signed in to the console: a key, and so its account."""

from dataclasses import dataclass
from uuid import UUID

from billing.keys import PREFIXES, KeyFacts
from billing.tables import ApiKey


@dataclass(frozen=True, slots=True)
class Visitor:
    """The key that a browser signed in with, as it stands at this request."""

    key: KeyFacts
    api_key: ApiKey
    account_name: str
    form_word: str

    @property
    def account_id(self) -> UUID:
        return self.key.account_id

    @property
    def actor(self) -> str:
        """The name in the audit trail."""
        return f"key:{self.api_key.key_id}"

    def may(self, scope: str) -> bool:
        """Tell whether the key has a scope; `admin` has them all."""
        return bool(self.key.scopes & {scope, "admin"})


def shown(key: ApiKey) -> str:
    """Write what of a key may be shown: enough to tell it from others."""
    return f"{PREFIXES[key.env]}{key.key_id}…{key.last4}"
