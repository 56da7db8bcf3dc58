"""The Revid contract, over the whole stack: the documents as printed, and what they leave open."""

import asyncio
import json
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import AsyncClient, Response
from PIL import Image
from sqlalchemy import func, update

from billing.posting import Balance
from gateway import jobs
from gateway.app import House
from gateway.tables import Job
from tests.gateway.revid import HOST, SUBMIT, assert_refused, completed, submit
from tests.gateway.web import Customer, MakeClient, NewCustomer, ReadBalance, WorkOff

GOLDEN = Path(__file__).parent / "golden"
GIF = b"GIF89a" + bytes(64)


def golden(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / f"revid_{name}.json").read_text())
    return document


async def test_a_submitted_task_answers_as_the_contract_prints_it(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await submit(client, customer, astronaut, model="u2net")

    document = answer.json()
    task_id = document["task_id"]
    expected = golden("created") | {"task_id": task_id}
    expected["endpoints"]["check_status"] = f"/api/get/{task_id}"
    assert answer.status_code == 200
    assert document == expected
    assert str(UUID(task_id, version=4)) == task_id


async def test_a_waiting_task_answers_as_the_contract_prints_it(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    task_id = (await submit(client, customer, astronaut)).json()["task_id"]

    document = (await client.get(f"/api/get/{task_id}")).json()

    assert_moment(document["created_at"])
    assert document == golden("processing") | {"progress": 0, "created_at": document["created_at"]}


async def test_a_completed_task_answers_as_the_contract_prints_it(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff
) -> None:
    task_id = await completed(client, customer, work, astronaut)

    document = (await client.get(f"/api/get/{task_id}")).json()

    printed, result = golden("completed"), document["result"]
    beside = {"confidence", "reasons", "warnings"}
    assert set(document) == set(printed) | beside
    assert list(result) == list(printed["result"])
    for name in ("status", "message", "progress"):
        assert document[name] == printed[name]
    assert_moment(document["created_at"])
    assert_moment(document["completed_at"])
    assert result["image_filename"] == f"{task_id}_output.png"
    assert result["image_url"] == f"{HOST}/output/{task_id}_output.png"
    assert result["input_size"] == len(astronaut)
    assert result["input_size_kb"] == round(len(astronaut) / 1024, 1)
    assert result["output_size_kb"] == round(result["output_size"] / 1024, 1)
    assert 0 < result["elapsed_seconds"] < 60
    assert result["model"] == "cutout-lite"


async def test_a_file_of_the_wrong_kind_becomes_a_failed_task_told_by_its_bytes(
    client: AsyncClient, customer: Customer, work: WorkOff, balance: ReadBalance
) -> None:
    task_id = (await submit(client, customer, GIF)).json()["task_id"]
    await work()

    document = (await client.get(f"/api/get/{task_id}")).json()

    times = {name: document[name] for name in ("created_at", "completed_at")}
    assert document == golden("failed") | times
    assert_moment(times["completed_at"])
    assert await balance(customer) == Balance(250, 0, 0, 0, 0)


async def test_a_broken_picture_becomes_a_failed_task_that_is_free(
    client: AsyncClient, customer: Customer, work: WorkOff, balance: ReadBalance, astronaut: bytes
) -> None:
    task_id = (await submit(client, customer, astronaut[:200])).json()["task_id"]
    await work()

    document = (await client.get(f"/api/get/{task_id}")).json()

    assert document["status"] == "failed"
    assert document["message"].startswith("Background removal failed: ")
    assert document["result"].keys() == {"error"}
    assert (await balance(customer)).available == 250


def assert_moment(text: str) -> None:
    """Check that it is written as 2025-01-24T10:30:00.000000."""
    date, _, fraction = text.partition(".")
    assert len(date) == len("2025-01-24T10:30:00")
    assert len(fraction) == 6


async def test_a_task_holds_its_price_and_charges_it_when_it_is_done(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff, balance: ReadBalance
) -> None:
    answer = await submit(client, customer, astronaut)
    assert answer.headers["X-Credits-Held"] == "25"
    assert answer.headers["X-Credits-Charged"] == "0"
    assert answer.headers["X-Credits-Remaining"] == "225"
    assert await balance(customer) == Balance(225, 25, 0, 0, 0)

    await work()

    done = await client.get(f"/api/get/{answer.json()['task_id']}")
    assert done.headers["X-Credits-Charged"] == "25"
    assert await balance(customer) == Balance(225, 0, 25, 0, 0)


async def test_the_download_is_the_png_and_is_for_the_client_alone(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff
) -> None:
    task_id = await completed(client, customer, work, astronaut)
    result = (await client.get(f"/api/get/{task_id}")).json()["result"]

    answer = await client.get(result["image_url"].removeprefix(HOST))

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"].startswith("private, max-age=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(answer.content) == result["output_size"]
    cutout = Image.open(BytesIO(answer.content))
    assert (cutout.mode, cutout.size) == ("RGBA", (512, 512))
    head = await client.head(result["image_url"].removeprefix(HOST))
    assert head.status_code == 200
    assert head.headers["Content-Length"] == str(result["output_size"])


async def test_a_poll_with_a_key_tells_the_limits_and_takes_nothing_of_them(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await submit(client, customer, astronaut)
    status = f"/api/get/{answer.json()['task_id']}"
    polls = [await client.get(status, headers=customer.x_api_key) for _ in range(3)]
    for poll in polls:
        assert poll.headers["RateLimit-Policy"] == answer.headers["RateLimit-Policy"]
        assert remaining(poll) >= remaining(answer)
    assert "RateLimit" not in (await client.get(status)).headers


def remaining(answer: Response) -> int:
    return int(answer.headers["RateLimit"].partition("r=")[2].partition(";")[0])


async def test_a_wrong_key_at_a_poll_counts_against_the_address(
    make_client: MakeClient, astronaut: bytes
) -> None:
    client, customer = await make_client(ip_rate_per_minute=1)
    client._transport.client = ("192.0.2.7", 1)  # type: ignore[attr-defined]  # not the others'
    status = f"/api/get/{(await submit(client, customer, astronaut)).json()['task_id']}"
    wrong = {"x-api-key": "made up"}
    answers = [await client.get(status, headers=wrong) for _ in range(3)]
    assert {answer.status_code for answer in answers} <= {404, 429}
    assert answers[-1].status_code == 429


async def test_a_result_past_its_time_is_gone(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff, house: House
) -> None:
    task_id = await completed(client, customer, work, astronaut)
    async with house.sessions.begin() as db:
        await db.execute(
            update(Job)
            .where(Job.id == UUID(task_id))
            .values(result_expires_at=func.now() - timedelta(seconds=1))
        )

    answer = await client.get(f"/output/{task_id}_output.png")

    assert answer.status_code == 410
    assert answer.json() == {
        "success": False,
        "status": "failed",
        "message": "The result has expired",
        "error": "result_expired",
    }


async def test_a_long_poll_answers_as_soon_as_the_task_has_ended(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff
) -> None:
    task_id = (await submit(client, customer, astronaut)).json()["task_id"]
    async with asyncio.timeout(10):
        polling = asyncio.create_task(client.get(f"/api/get/{task_id}", params={"wait": 20}))
        await asyncio.sleep(0.1)
        await work()
        document = (await polling).json()
    assert document["status"] == "completed"


async def test_a_long_poll_gives_up_when_told_to(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    task_id = (await submit(client, customer, astronaut)).json()["task_id"]
    document = (await client.get(f"/api/get/{task_id}", params={"wait": 0.3})).json()
    assert document["status"] == "processing"


async def test_a_waiting_task_can_be_canceled_for_free_by_its_owner(
    client: AsyncClient,
    customer: Customer,
    new_customer: NewCustomer,
    astronaut: bytes,
    balance: ReadBalance,
) -> None:
    task_id = (await submit(client, customer, astronaut)).json()["task_id"]
    stranger = await new_customer()
    refused = await client.delete(f"/api/get/{task_id}", headers=stranger.x_api_key)
    assert refused.status_code == 404

    answer = await client.delete(f"/api/get/{task_id}", headers=customer.x_api_key)

    assert answer.json()["status"] == "failed"
    assert answer.json()["message"] == "Background removal failed: Canceled"
    assert (await balance(customer)).available == 250


async def test_a_task_in_work_is_not_canceled_and_the_refusal_says_so(
    client: AsyncClient, customer: Customer, house: House, astronaut: bytes, balance: ReadBalance
) -> None:
    task_id = (await submit(client, customer, astronaut, model="cutout-lite")).json()["task_id"]
    while (job := await claimed(house)).id != UUID(task_id):
        pass  # what other tests have left

    refused = await client.delete(f"/api/get/{task_id}", headers=customer.x_api_key)

    assert refused.status_code == 409
    assert refused.json() == {
        "success": False,
        "status": "failed",
        "message": "The task has begun and cannot be canceled",
        "error": "conflict",
    }
    await house.cutouts.work(job.id, job.attempt)
    late = await client.delete(f"/api/get/{task_id}", headers=customer.x_api_key)
    assert (late.status_code, late.json()["status"]) == (200, "completed")
    assert await balance(customer) == Balance(225, 0, 25, 0, 0)


async def claimed(house: House) -> Job:
    async with house.sessions.begin() as db:
        job = await jobs.claim(db, lease=house.settings.lease)
    assert job is not None
    return job


async def test_options_reach_the_cutout(
    client: AsyncClient, customer: Customer, astronaut: bytes, work: WorkOff
) -> None:
    task_id = (await submit(client, customer, astronaut, format="webp", crop="true")).json()[
        "task_id"
    ]
    await work()
    result = (await client.get(f"/api/get/{task_id}")).json()["result"]
    assert result["image_filename"] == f"{task_id}_output.webp"
    answer = await client.get(f"/output/{result['image_filename']}")
    assert answer.headers["Content-Type"] == "image/webp"


async def test_a_repeated_submit_is_one_task_and_one_hold(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    headers = customer.x_api_key | {"Idempotency-Key": "once"}
    files = {"file": ("a.jpg", astronaut)}
    first = await client.post(SUBMIT, headers=headers, files=files)
    again = await client.post(SUBMIT, headers=headers, files=files)
    other = await client.post(SUBMIT, headers=headers, files=files, data={"format": "webp"})

    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (await balance(customer)).held == 25
    assert_refused(other, 422, "idempotency_mismatch")
