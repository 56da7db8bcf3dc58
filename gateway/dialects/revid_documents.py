"""The four documents of the Revid contract, key for key and sentence for sentence."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from gateway.dialects.words import BY_CODE, sentence
from gateway.errors import INTERNAL, Problem
from gateway.tables import CANCELED, FAILED, SUCCEEDED, Job

KIB: Final = 1024
STARTED: Final = "Background removal started"
WORKING: Final = "Removing background from image..."
COMPLETED: Final = "Background removal completed successfully"
FAILURE: Final = "Background removal failed: "
WHEN_DONE: Final = "/output/{filename} (after completion)"
CANCELED_WORDS: Final = "Canceled by its owner"
TITLES: Final[Mapping[str, str]] = {
    # The contract's own words, where it has some; elsewhere the problem's title.
    "unsupported_format": "Invalid image format",
    "model_not_installed": "rembg not available",
}


def refusal_document(problem: Problem, words: str) -> dict[str, Any]:
    """Refuse what never became a task that could fail."""
    title = TITLES.get(problem.code, "")
    return {
        "success": False,
        "status": "failed",
        "message": words if words.startswith(title) else f"{title}: {words}",
        "error": problem.code,
    }


def created_document(job_id: UUID) -> dict[str, Any]:
    return {
        "success": True,
        "task_id": str(job_id),
        "status": "pending",
        "message": STARTED,
        "endpoints": {"check_status": f"/api/get/{job_id}", "download_image": WHEN_DONE},
    }


def task_document(job: Job, public_url: str) -> dict[str, Any]:
    """Render the task as it is now: one of the contract's three documents."""
    if job.state == SUCCEEDED:
        return _completed(job, public_url)
    if job.state in {FAILED, CANCELED}:
        return _failed(job)
    return _document(job, "processing", WORKING, job.progress, None)


def _completed(job: Job, public_url: str) -> dict[str, Any]:
    filename = filename_of(job)
    source_bytes, result_bytes = job.source_bytes, job.result_bytes or 0
    result = {
        "image_url": f"{public_url.rstrip('/')}/output/{filename}",
        "image_filename": filename,
        "input_size": source_bytes,
        "output_size": result_bytes,
        "input_size_kb": round(source_bytes / KIB, 1),
        "output_size_kb": round(result_bytes / KIB, 1),
        "elapsed_seconds": _elapsed_s(job),
        "model": job.model_ran,
    }
    beside = {"confidence": job.confidence, "reasons": job.reasons, "warnings": job.warnings}
    return _document(job, "completed", COMPLETED, 100, result) | beside


def _failed(job: Job) -> dict[str, Any]:
    if job.state == CANCELED:
        return _document(job, "failed", FAILURE + "Canceled", 0, {"error": CANCELED_WORDS})
    problem = BY_CODE.get(job.error_code or "", INTERNAL)
    error = sentence(job.error_kind, job.error_facts, problem)
    why = TITLES.get(problem.code, problem.title)
    return _document(job, "failed", FAILURE + why, 0, {"error": error})


def _document(
    job: Job, status: str, message: str, progress: int, result: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "progress": progress,
        "created_at": _moment(job.created_at),
        "completed_at": _moment(job.finished_at) if job.finished_at else None,
        "result": result,
    }


def filename_of(job: Job) -> str:
    return f"{job.id}_output.{job.extension}"


def _moment(moment: datetime) -> str:
    """Write it in UTC, without a zone and always with microseconds, as the contract prints it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _elapsed_s(job: Job) -> float:
    began_at, ended_at = job.started_at or job.created_at, job.finished_at or job.created_at
    return round((ended_at - began_at).total_seconds(), 2)
