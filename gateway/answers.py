"""What goes into the use case and what comes out of it, in no dialect's shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from billing.ledger import Balance
from core import CutoutOptions
from gateway.auth import Caller
from gateway.source import Source
from gateway.tables import Job


@dataclass(frozen=True, slots=True)
class CutoutRequest:
    """What a dialect has understood of a call."""

    caller: Caller
    source: Source
    model: str
    options: CutoutOptions
    dialect: str
    idempotency_key: str | None
    body_sha256: str
    webhook_url: str | None = None
    background: Source | None = None
    """The customer's own, read only when it is laid under the subject."""

    @property
    def size_bytes(self) -> int:
        background_bytes = self.background.size_bytes if self.background else 0
        return self.source.size_bytes + background_bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """A stored, charged cutout."""

    job_id: UUID
    result_key: str
    extension: str
    media_type: str
    result_bytes: int
    width_px: int
    height_px: int
    model: str
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    stages_ms: Mapping[str, float]
    finished_at: datetime
    result_expires_at: datetime
    charged_credits: int
    balance: Balance
    is_replayed: bool

    @classmethod
    def of(cls, job: Job, balance: Balance, *, is_replayed: bool) -> Self:
        """Read the answer off a job that has succeeded: its row is the first answer, kept."""
        shared: dict[str, Any] = {
            name: getattr(job, name)
            for name in cls.__slots__
            if hasattr(job, name) and name not in {"reasons", "warnings"}
        }
        return cls(
            **shared,
            job_id=job.id,
            model=str(job.model_ran),
            reasons=tuple(job.reasons),
            warnings=tuple(job.warnings),
            balance=balance,
            is_replayed=is_replayed,
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted job: its source is stored, its price is held until it ends."""

    job_id: UUID
    created_at: datetime
    held_credits: int
    charged_credits: int
    balance: Balance
    is_replayed: bool

    @classmethod
    def of(cls, job: Job, balance: Balance, *, is_replayed: bool) -> Self:
        """Read the answer off a job as it stands: one that was submitted before may have ended."""
        return cls(
            job_id=job.id,
            created_at=job.created_at,
            held_credits=0 if job.has_ended else job.price_credits,
            charged_credits=job.charged_credits,
            balance=balance,
            is_replayed=is_replayed,
        )
