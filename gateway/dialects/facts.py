"""What is learned about one HTTP request on its way through, for its log line and its headers."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from litestar.connection import ASGIConnection

from gateway.errors import LimitState

REQUEST_ID_SHAPE: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
STATE_KEY: Final = "facts"


@dataclass(slots=True)
class RequestFacts:
    """Filled in by whoever learns it; read when the answer starts and when it has ended."""

    request_id: str
    started_at_s: float = field(default_factory=time.perf_counter)
    job_id: UUID | None = None
    limit: LimitState | None = None
    is_authenticated: bool = False
    remaining_credits: int | None = None
    """What the key could spend when that was last looked at; None before."""
    charged_credits: int = 0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """Of a cutout that this request has made, and not of one that it was answered with again."""
    code: str = "ok"
    """The problem's code, or ok."""


def request_id_from(sent: str | None) -> str:
    """Take the caller's id where it is one that may stand in a log line, else make one."""
    if sent and REQUEST_ID_SHAPE.fullmatch(sent):
        return sent
    return uuid4().hex


def facts_of(connection: ASGIConnection[Any, Any, Any, Any]) -> RequestFacts:
    facts: RequestFacts = connection.scope["state"][STATE_KEY]
    return facts
