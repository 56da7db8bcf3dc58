"""The examples of the OpenAPI document. A test makes each call and compares the answers' shapes."""

from typing import Any, Final

TASK_ID: Final = "5f0c9a52-7d41-4c1e-9d3c-0a6f5b1f2e77"
SIGNATURE: Final = "Jx3mS0cTg3cVg7m2o0W1cXo0Zq0c3bq6S8kXG5l1d2E"
WARNING: Final = "the picture's long edge is under 400 px: its edges will look coarse"
CODIA_REQUEST: Final = {"image_url": "https://example.com/product.jpg"}
CODIA_OK: Final[dict[str, Any]] = {
    "code": 0,
    "message": "ok",
    "data": {
        "image_url": f"https://cutout.example/r/{TASK_ID}.png"
        f"?expires=1795172400&signature={SIGNATURE}"
    },
    "model": "isnet-general-use",
    "confidence": 0.97,
    "reasons": ["low_resolution", "touches_frame"],
    "warnings": [WARNING],
}
REVID_CREATED: Final[dict[str, Any]] = {
    "success": True,
    "task_id": TASK_ID,
    "status": "pending",
    "message": "Background removal started",
    "endpoints": {
        "check_status": f"/api/get/{TASK_ID}",
        "download_image": "/output/{filename} (after completion)",
    },
}
TASKS: Final[dict[str, dict[str, Any]]] = {
    "processing": {
        "status": "processing",
        "message": "Removing background from image...",
        "progress": 50,
        "created_at": "2026-11-20T10:30:00.000000",
        "completed_at": None,
        "result": None,
    },
    "completed": {
        "status": "completed",
        "message": "Background removal completed successfully",
        "progress": 100,
        "created_at": "2026-11-20T10:30:00.000000",
        "completed_at": "2026-11-20T10:30:02.450000",
        "result": {
            "image_url": f"https://cutout.example/output/{TASK_ID}_output.png",
            "image_filename": f"{TASK_ID}_output.png",
            "input_size": 524288,
            "output_size": 314572,
            "input_size_kb": 512.0,
            "output_size_kb": 307.2,
            "elapsed_seconds": 2.45,
            "model": "u2net",
        },
        "confidence": 0.97,
        "reasons": ["low_resolution", "touches_frame"],
        "warnings": [WARNING],
    },
    "failed": {
        "status": "failed",
        "message": "Background removal failed: Invalid image format",
        "progress": 0,
        "created_at": "2026-11-20T10:30:00.000000",
        "completed_at": "2026-11-20T10:30:01.123456",
        "result": {"error": "Unsupported image format: gif. Supported: png, jpg, jpeg, webp, bmp"},
    },
}
_ACCOUNT: Final[dict[str, Any]] = {
    "account_id": "0d6ff0c1-4a75-4a36-9f4e-2f0f3f8f7f55",
    "name": "Ada",
    "status": "active",
    "plan": "growth",
    "environment": "live",
    "price_credits": 25,
    "credits": {
        "balance": 50000,
        "held": 25,
        "available": 49975,
        "available_to_key": 49975,
        "credit_limit": 0,
        "expiring_soon": None,
    },
    "budget": None,
    "period_end": "2026-12-20T10:30:00Z",
    "limits": {
        "rate_per_minute": 1200,
        "burst": 300,
        "concurrency_max": 64,
        "queue_class": "standard",
        "upload_bytes_max": 20971520,
        "image_pixels_max": 50000000,
        "image_edge_px_max": 16000,
        "image_ratio_max": 100,
        "image_frames_max": 1,
        "processing_seconds_max": 60.0,
        "result_seconds": 259200.0,
        "link_seconds": 3600.0,
    },
}
USAGE: Final[dict[str, Any]] = {
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-11-21T00:00:00Z",
    "usage": [
        {
            "day": "2026-11-20",
            "api_key_id": "8d1f1a0e-2a0c-4f5b-9d7e-7b7f7a0c1d2e",
            "key_name": "web shop",
            "model": "u2net",
            "dialect": "revid",
            "succeeded": 41,
            "failed": 1,
            "charged_credits": 1025,
        }
    ],
    "total": {"succeeded": 41, "failed": 1, "charged_credits": 1025},
}
STATEMENT: Final = (
    "at,seq,op,job_id,amount,balance,available,held,ref,reason\n"
    "2026-11-01T10:30:00+00:00,1,grant,,50000,50000,50000,0,plan:1,period begun\n"
    f"2026-11-20T10:30:00+00:00,2,hold,{TASK_ID},0,50000,49975,25,{TASK_ID},\n"
    f"2026-11-20T10:30:02+00:00,3,capture,{TASK_ID},-25,49975,49975,0,{TASK_ID},\n"
)
_JOB: Final[dict[str, Any]] = {
    "job_id": TASK_ID,
    "dialect": "revid",
    "request_id": "a1b2c3",
    "state": "canceled",
    "created_at": "2026-11-20T10:30:00Z",
    "finished_at": "2026-11-20T10:30:02.450000Z",
    "charged_credits": 0,
}
_EVENT: Final = {"timestamp": "2026-11-20T10:30:02.450000Z"}
WEBHOOKS: Final[dict[str, dict[str, Any]]] = {
    "cutout.succeeded": {
        "type": "cutout.succeeded",
        **_EVENT,
        "data": _JOB
        | {
            "state": "succeeded",
            "charged_credits": 25,
            "width_px": 512,
            "height_px": 512,
            "result_bytes": 314572,
            "media_type": "image/png",
            "confidence": 0.97,
            "model": "u2net",
            "format": "png",
            "reasons": ["low_resolution", "touches_frame"],
            "warnings": [WARNING],
            "result_expires_at": "2026-11-21T10:30:02.450000Z",
            "image_url": CODIA_OK["data"]["image_url"],
        },
    },
    "cutout.failed": {
        "type": "cutout.failed",
        **_EVENT,
        "data": _JOB
        | {
            "state": "failed",
            "error": {"code": "unsupported_format", "message": "Unsupported image format"},
        },
    },
    "cutout.canceled": {"type": "cutout.canceled", **_EVENT, "data": _JOB},
    "credits.threshold_crossed": {
        "type": "credits.threshold_crossed",
        **_EVENT,
        "data": {
            "account_id": "0d6ff0c1-4a75-4a36-9f4e-2f0f3f8f7f55",
            "percent": 80,
            "consumed": 40000,
            "available": 10000,
            "period_end": "2026-12-20T10:30:00Z",
        },
    },
}
_ENDING: Final = {"credits": 1200, "at": "2026-11-24T00:00:00Z"}
_EXPIRING: Final = _ACCOUNT | {"credits": _ACCOUNT["credits"] | {"expiring_soon": _ENDING}}
_BUDGET: Final = {"credits": 100, "used": 75, "left": 25, "period_end": "2026-12-20T10:30:00Z"}


def _with_budget(account: dict[str, Any]) -> dict[str, Any]:
    means = account["credits"] | {"available_to_key": 25}
    return account | {"credits": means, "budget": _BUDGET}


ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "usual": _ACCOUNT,
    "expiring": _EXPIRING,
    "budget": _with_budget(_ACCOUNT),
    "budget_expiring": _with_budget(_EXPIRING),
}
