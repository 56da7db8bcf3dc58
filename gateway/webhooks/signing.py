"""Webhooks' signatures, as Standard Webhooks has them, and the secrets that they are made with.

No table holds a secret: an account's is derived from the gateway's own and a version, so that a
dump of the database signs nothing and a new version is all that a rotation needs.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from gateway.settings import Settings

Headers = dict[str, str]


def master_of(settings: Settings) -> bytes:
    """Give what all accounts' secrets are derived from: that of the links, where no own is set."""
    return (settings.webhook_secret or settings.link_secret).get_secret_value().encode()


def derive_secret(master: bytes, account_id: UUID, version: int) -> bytes:
    # No other message signed with the links' secret begins like this one.
    message = f"webhook-secret-1|{account_id}|{version}".encode()
    return hmac.new(master, message, hashlib.sha256).digest()


def written(secret: bytes) -> str:
    """Write a secret as receivers' libraries read it."""
    return f"whsec_{base64.b64encode(secret).decode()}"


def sign(delivery_name: str, at: datetime, body: bytes, secrets: Sequence[bytes]) -> Headers:
    """Make the three headers of a delivery, with one signature for each of `secrets`.

    Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
    """
    timestamp = str(int(at.timestamp()))
    content = f"{delivery_name}.{timestamp}.".encode() + body
    signatures = [hmac.new(secret, content, hashlib.sha256).digest() for secret in secrets]
    return {
        "webhook-id": delivery_name,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(s).decode()}" for s in signatures),
    }
