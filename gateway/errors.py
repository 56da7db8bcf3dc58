"""The gateway's own errors, and the one table: exception type -> Problem.

Exceptions carry facts; only this module knows HTTP statuses; only dialects know shapes. An
exception's own message never leaves the house: what a customer reads is the Problem's title.

GatewayError
├── FetchError                    image_url, bg_image_url
│   ├── UrlNotAllowedError        port, host or address is refused
│   │   └── UrlMalformedError     it is no http(s) URL as far as one can see
│   ├── UrlUnreachableError       no answer, a bad answer, or too slow
│   │   └── UrlStatusError        an answer, and its status is not 200
│   └── SourceTooLargeError       more bytes than the limit (uploads too)
├── InvalidRequestError           a field is missing, unknown or malformed
├── ContentTypeError              a body of another kind than the endpoint takes
├── MissingKeyError               no API key was sent
├── RateLimitedError              the key's rate, or the address's
├── OverloadedError               our queue is full or too slow
├── DeadlineExceededError         the picture took longer than a request may
├── IdempotencyMismatchError      same Idempotency-Key, other body
├── IdempotencyConflictError      same Idempotency-Key, still running
├── LeaseLostError                the attempt at a job is no longer ours
├── JobNotFoundError              no such job, or another account's
├── JobBegunError                 too late to cancel it
├── ResultExpiredError            the result was purged
├── LinkInvalidError              signature wrong
└── StorageUnavailableError       results cannot be written or read now
"""

from dataclasses import dataclass
from typing import Final

from billing import errors as billing_errors
from core import errors as core_errors


class GatewayError(Exception):
    """Anything the gateway itself refuses."""


class FetchError(GatewayError):
    """A picture could not be taken in; `field` is the one that named it, where a URL did."""

    field: str | None = None


class UrlNotAllowedError(FetchError):
    """The address is not one we fetch from. The reason goes to the log, never to the caller.

    `rule` says where we do fetch from, which is the same for every URL.
    """

    rule: str | None = None


class UrlMalformedError(UrlNotAllowedError):
    """The URL itself cannot be read; `why` tells of its syntax alone, and is safe to show."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class UrlUnreachableError(FetchError):
    """The address gave no usable answer in time."""


class UrlStatusError(UrlUnreachableError):
    """A server that may be visited answered, with something else than the picture."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class SourceTooLargeError(FetchError):
    """More bytes than the limit."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"more than {bytes_max} bytes")
        self.bytes_max = bytes_max


class InvalidRequestError(GatewayError):
    """A field is missing, unknown or malformed; `why` is ours, safe to show."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class ContentTypeError(GatewayError):
    """The body is of another kind than the endpoint takes; `accepted` names those it does."""

    def __init__(self, *accepted: str) -> None:
        super().__init__(f"expected {' or '.join(accepted)}")
        self.accepted = accepted


class MissingKeyError(GatewayError):
    """No API key was sent where the endpoint looks for it; `send_as` says where that is."""

    def __init__(self, send_as: str | None = None) -> None:
        super().__init__()
        if send_as is not None:
            self.send_as = send_as


@dataclass(frozen=True, slots=True)
class LimitState:
    """Where a limit stands after a call: what the RateLimit fields are made of."""

    limit: int
    """Calls that may come at once."""
    remaining: int
    """Calls that may still come at once."""
    reset_s: int
    """Until all of `limit` may come at once again."""
    retry_after_s: int
    """Until the next call is taken; 0 while any remain."""
    window_s: int
    """How long `limit` calls take to come back."""


class RateLimitedError(GatewayError):
    """Too many calls in the window."""

    def __init__(self, retry_after_s: int, state: LimitState | None = None) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.state = state


class OverloadedError(GatewayError):
    """The queue is full, or its wait is longer than the deadline."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class DeadlineExceededError(GatewayError):
    """Processing took longer than a request may."""


class IdempotencyMismatchError(GatewayError):
    """The same Idempotency-Key came with another body."""


class IdempotencyConflictError(GatewayError):
    """The request under this Idempotency-Key is still running."""


class LeaseLostError(GatewayError):
    """The job was taken back from this attempt; whatever it has made counts for nothing."""


class JobNotFoundError(GatewayError):
    """No such job for this caller."""


class JobBegunError(GatewayError):
    """The job is in work: too late to cancel it."""


class ResultExpiredError(GatewayError):
    """The result is past its time and purged."""


class LinkInvalidError(GatewayError):
    """A download link's signature is wrong."""


class StorageUnavailableError(GatewayError):
    """Sources or results cannot be written or read now."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal, in no dialect's shape: status, stable code, public words."""

    status: int
    code: str
    title: str
    retryable: bool = False


PROBLEMS: Final[dict[type[Exception], Problem]] = {
    MissingKeyError: Problem(401, "missing_key", "An API key is required"),
    billing_errors.UnknownKeyError: Problem(401, "unknown_key", "The API key is not known"),
    billing_errors.KeyRevokedError: Problem(
        401, "key_revoked", "The API key was revoked or has expired"
    ),
    billing_errors.KeyAddressError: Problem(
        403, "key_not_allowed", "The API key may not be used from this address"
    ),
    billing_errors.KeyScopeError: Problem(
        403, "key_not_allowed", "The API key lacks the scope for this call"
    ),
    billing_errors.AccountNotFoundError: Problem(401, "unknown_key", "The API key is not known"),
    billing_errors.AccountSuspendedError: Problem(
        403, "account_suspended", "The account is suspended"
    ),
    billing_errors.InsufficientCreditsError: Problem(
        402, "insufficient_credits", "Insufficient credits"
    ),
    billing_errors.TooManyAtOnceError: Problem(
        429, "too_many_at_once", "Too many requests at once", retryable=True
    ),
    RateLimitedError: Problem(429, "rate_limited", "Rate limit exceeded", retryable=True),
    IdempotencyMismatchError: Problem(
        422, "idempotency_mismatch", "The Idempotency-Key was used with another request"
    ),
    IdempotencyConflictError: Problem(
        409, "idempotency_conflict", "The first request is still running", retryable=True
    ),
    InvalidRequestError: Problem(400, "invalid_request", "The request is not valid"),
    ContentTypeError: Problem(415, "wrong_content_type", "The content type is not accepted here"),
    core_errors.InvalidOptionError: Problem(400, "invalid_request", "The request is not valid"),
    UrlUnreachableError: Problem(
        400, "url_unreachable", "image_url is unreachable", retryable=True
    ),
    UrlNotAllowedError: Problem(400, "url_not_allowed", "image_url is not allowed"),
    core_errors.UnsupportedFormatError: Problem(
        415, "unsupported_format", "Unsupported image format"
    ),
    core_errors.TooManyFramesError: Problem(
        415, "unsupported_format", "Animated images are not supported"
    ),
    SourceTooLargeError: Problem(413, "file_too_large", "File too large"),
    core_errors.ImageTooLargeError: Problem(
        413, "too_many_pixels", "The image has too many pixels"
    ),
    core_errors.UnreadableImageError: Problem(
        400, "unreadable_image", "The file is not a readable image"
    ),
    core_errors.NoForegroundError: Problem(422, "no_foreground", "No foreground found"),
    core_errors.UnknownModelError: Problem(400, "unknown_model", "Unknown model"),
    core_errors.WeightsNotInstalledError: Problem(
        503, "model_not_installed", "The model is not installed"
    ),
    core_errors.WeightsCorruptError: Problem(
        503, "model_not_installed", "The model is not installed"
    ),
    core_errors.ProviderUnavailableError: Problem(
        503, "model_not_installed", "The model is not installed"
    ),
    OverloadedError: Problem(503, "overloaded", "Overloaded, try again later", retryable=True),
    StorageUnavailableError: Problem(503, "overloaded", "Storage is unavailable", retryable=True),
    DeadlineExceededError: Problem(504, "deadline_exceeded", "Processing took too long"),
    LeaseLostError: Problem(503, "overloaded", "Interrupted, try again", retryable=True),
    JobNotFoundError: Problem(404, "not_found", "Not found"),
    JobBegunError: Problem(409, "conflict", "The task has begun and cannot be canceled"),
    LinkInvalidError: Problem(404, "not_found", "Not found"),
    ResultExpiredError: Problem(410, "result_expired", "The result has expired"),
    billing_errors.HoldNotOpenError: Problem(409, "conflict", "This request was already settled"),
    billing_errors.DuplicateOperationError: Problem(
        409, "conflict", "This operation was already done"
    ),
    billing_errors.InvalidOperationError: Problem(422, "invalid_request", "Not possible"),
}
# What HTTP itself refuses, before any code of ours has raised.
NOT_FOUND: Final = Problem(404, "not_found", "Not found")
METHOD_NOT_ALLOWED: Final = Problem(405, "method_not_allowed", "Method not allowed")
INVALID_REQUEST: Final = PROBLEMS[InvalidRequestError]
FILE_TOO_LARGE: Final = PROBLEMS[SourceTooLargeError]
INTERNAL: Final = Problem(500, "internal_error", "Internal error", retryable=True)


def problem_for(exc: BaseException) -> Problem:
    """Look `exc` up by its type or the nearest of its bases; what the table lacks is a bug."""
    for kind in type(exc).__mro__:
        if problem := PROBLEMS.get(kind):
            return problem
    return INTERNAL


_TITLES: Final = {INTERNAL.code: INTERNAL.title} | {
    name: problem.title
    for kind, problem in reversed(PROBLEMS.items())
    for name in (problem.code, kind.__name__)
}


def title_of(kind: str | None, code: str | None) -> str:
    """Say why a job failed from what its row keeps: one code may stand for several kinds."""
    return _TITLES.get(kind or "") or _TITLES.get(code or "", INTERNAL.title)
