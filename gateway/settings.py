"""Every knob of the gateway, read once at start and frozen; the only reader of the environment.

Each field is set by `CUTOUT_<NAME>` (docs/settings.md). Byte, pixel and second limits carry their
unit in the name; relations between limits are asserted here, so that a wrong set never starts.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PostgresDsn, RedisDsn, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
Secret = Annotated[SecretStr, Field(min_length=32)]
PositiveSpan = Annotated[timedelta, Field(gt=timedelta(0))]
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def rembg_weights_dir() -> Path | None:
    """Where rembg keeps its downloads, made already or not; None where we may not look."""
    folder = Path(os.environ.get("U2NET_HOME") or "~/.u2net").expanduser()
    try:
        folder.stat()
    except PermissionError:
        return None
    except OSError:  # not there: weights may come while we run
        return folder
    return folder if os.access(folder, os.X_OK) else None


def child_environment(ours: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Make a child process's environment: `defaults`, over them the person's, over them `ours`."""
    return {**defaults, **os.environ, **ours}


def is_from_environment(field: str) -> bool:
    """Tell whether the environment itself names a setting, rather than a file or a default."""
    return f"CUTOUT_{field}".upper() in os.environ


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CUTOUT_", frozen=True, extra="forbid")

    # Where things are.
    database_url: PostgresDsn
    """The application's role: it may append to the ledger, never change it."""
    database_owner_url: PostgresDsn | None = None
    """The role that migrates; `database_url` where one role does both."""
    database_connections_max: Positive = 15
    """Of each gateway and each worker."""
    redis_url: RedisDsn = RedisDsn("redis://127.0.0.1:6379/0")
    storage_url: str = "file:///var/lib/cutout"
    bind_host: str = "127.0.0.1"
    bind_port: Annotated[int, Field(ge=1, le=65535)] = 8000
    public_url: str = "http://127.0.0.1:8000"
    """What links begin with; the `Host` header is never believed."""

    # Secrets.
    key_peppers: dict[int, Secret]
    """Version -> pepper of API-key hashes; the highest version is used for new keys."""
    link_secret: Secret
    webhook_secret: Secret | None = None
    """What the accounts' webhook secrets are derived from; `link_secret` where unset."""

    playground_key: SecretStr | None = None
    """What the page at `/` pays with for its visitors; without one it asks each for a key."""

    # Weights and inference.
    weights_dir: Path | None = Field(default_factory=rembg_weights_dir)
    """Folder of `.onnx` files, each checked against its SHA-256; rembg's where unset."""
    missing_weights: Literal["refuse", "substitute"] = "refuse"
    default_model: str = "auto"
    preload_models: list[str] = ["auto"]
    """Loaded and warmed up before the gateway or worker says it is ready."""
    inference_slots: Positive = 2
    inference_threads: Positive = 1
    segmenter_bytes_max: Positive = 2 * 2**30
    inference_deadline: PositiveSpan = timedelta(seconds=60)

    # What is accepted.
    upload_bytes_max: Positive = 20 * 2**20
    image_pixels_max: Positive = 50_000_000
    image_edge_px_max: Positive = 16_000
    image_ratio_max: Positive = 100
    spool_bytes_max: Positive = 2**20
    """A source larger than this waits on disk, not in memory."""
    upload_concurrency_max: Positive = 256
    """Uploads coming in at once in one gateway; one account has at most a quarter of them."""

    # How much at once.
    queue_length_max: Positive = 512
    """Generous: what bounds a wait is the deadline, and hundreds of calls of one key are usual."""
    queue_bytes_max: Positive = 512 * 2**20
    queue_pixels_max: Positive = 1_500_000_000
    ip_rate_per_minute: Positive = 120
    """Calls without a valid key, per client address."""
    gateway_count: Positive = 1
    """Gateways that share the limits, for the local fall-back while Redis is away."""
    worker_count: Positive = 1
    """Workers that share the queue of jobs, each with `inference_slots`: what bounds its length."""

    # Fetching image_url.
    fetch_ports: list[int] = [80, 443]
    fetch_allowed_hosts: list[str] = []
    """`host:port` pairs excused from the public-address rule: tests, private installations."""
    fetch_allow_loopback: bool = False
    fetch_deadline: PositiveSpan = timedelta(seconds=10)
    fetch_redirects_max: Annotated[int, Field(ge=0)] = 3
    fetch_concurrency_max: Positive = 256
    """Downloads at once in one gateway; one account has at most a quarter of them."""

    # Jobs.
    hold_ttl: PositiveSpan = timedelta(minutes=10)
    """How long a job may be unfinished before the sweeper fails it and frees its hold."""
    lease: PositiveSpan = timedelta(seconds=15)
    heartbeat: PositiveSpan = timedelta(seconds=5)
    job_attempts_max: Positive = 3
    failed_source_ttl: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(hours=24)
    """How long the upload of a failed asynchronous job is kept, so that it can be run again."""
    keep_sources: bool = True
    """Whether the upload of a succeeded asynchronous job lives as long as its result."""
    job_retention: PositiveSpan = timedelta(days=30)
    """How long an ended job keeps what only its making needed; its row stays."""
    sweep_interval: PositiveSpan = timedelta(seconds=1)
    link_ttl: PositiveSpan = timedelta(hours=1)
    idempotency_ttl: PositiveSpan = timedelta(hours=24)
    shutdown_grace: PositiveSpan = timedelta(seconds=20)

    # Signing in to the dashboard and the console.
    sign_in_idle: PositiveSpan = timedelta(minutes=30)
    """A session that is not used for this long ends."""
    sign_in_lifetime: PositiveSpan = timedelta(hours=12)
    """A session ends after this, used or not."""

    # Webhooks.
    webhook_deadline: PositiveSpan = timedelta(seconds=10)
    webhook_retry_pause: PositiveSpan = timedelta(seconds=5)
    """After the first failed attempt; each further pause is three times as long, up to 4 hours."""
    webhook_retry_span: PositiveSpan = timedelta(hours=24)
    webhook_concurrency_max: Positive = 16
    """Deliveries at once in one worker; one account has at most a quarter of them."""
    webhook_retention: PositiveSpan = timedelta(days=30)
    """How long an ended delivery is kept; until then it can be replayed."""

    @property
    def peppers(self) -> dict[int, str]:
        """What API keys are hashed with, in the clear."""
        return {version: text.get_secret_value() for version, text in self.key_peppers.items()}

    @property
    def has_tls(self) -> bool:
        """Whether browsers speak TLS to us, so that cookies may be bound to it."""
        return self.public_url.startswith("https://")

    @property
    def is_loopback(self) -> bool:
        return self.bind_host in LOOPBACK_HOSTS

    @model_validator(mode="after")
    def check_relations(self) -> Self:
        if self.hold_ttl <= 2 * self.inference_deadline:
            # Otherwise the sweeper frees a hold that a finished cutout is about to capture.
            raise ValueError("hold_ttl must be more than twice inference_deadline")
        if self.lease < 2 * self.heartbeat:
            raise ValueError("lease must be at least two heartbeats, so that one may be lost")
        if self.fetch_allow_loopback and not self.is_loopback:
            raise ValueError("fetch_allow_loopback is refused with a public bind_host")
        if self.job_retention < max(self.idempotency_ttl, self.failed_source_ttl):
            # What is answered again, or run again, needs its options.
            raise ValueError("job_retention must cover idempotency_ttl and failed_source_ttl")
        if not self.key_peppers:
            raise ValueError("key_peppers needs at least one version")
        return self


def read_settings(file: Path | None = None) -> Settings:
    """Read the environment and, for what it lacks, a file of `CUTOUT_NAME='value'` lines."""
    return Settings(_env_file=file)  # type: ignore[call-arg]  # mypy cannot see the environment
