"""Download links: signed, expiring, for one result each; no key needed, none can be guessed."""

import base64
import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from gateway.errors import LinkInvalidError, ResultExpiredError

EXTENSION: Final = re.compile(r"[a-z0-9]{1,8}")
EXPIRES: Final = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)


class Links:
    """Signs and checks `/r/{job_id}.{extension}?expires=…&signature=…`."""

    def __init__(
        self, public_url: str, secret: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Make links that begin with `public_url`; whoever has `secret` can sign them."""
        self._public_url = public_url.rstrip("/")
        self._secret = secret.encode()
        self._clock = clock

    def sign(self, job_id: UUID, extension: str, ttl: timedelta) -> str:
        """Make the absolute URL under which the result of `job_id` is served for `ttl`."""
        if not EXTENSION.fullmatch(extension):
            raise ValueError(f"not a file extension: {extension!r}")
        expires = str(math.floor(self._clock() + ttl.total_seconds()))
        query = urlencode(
            {"expires": expires, "signature": self._signature(job_id, extension, expires)}
        )
        return f"{self._public_url}/r/{job_id}.{extension}?{query}"

    def verify(self, job_id: UUID, extension: str, expires: str, signature: str) -> None:
        """Let a genuine link that is still in its time pass.

        Raises:
            LinkInvalidError: not signed by us for this job, extension and time.
            ResultExpiredError: signed by us, and over.
        """
        if not EXTENSION.fullmatch(extension) or not EXPIRES.fullmatch(expires):
            raise LinkInvalidError
        expected = self._signature(job_id, extension, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise LinkInvalidError
        if int(expires) <= self._clock():
            raise ResultExpiredError

    def _signature(self, job_id: UUID, extension: str, expires: str) -> str:
        # No part can hold the separator, so no two links share a message.
        message = f"result-link-1|{job_id}|{extension}|{expires}".encode()
        digest = hmac.new(self._secret, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
