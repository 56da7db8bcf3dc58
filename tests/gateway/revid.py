"""How the tests of the Revid dialect submit and read what it says."""

from httpx import AsyncClient, Response

from tests.gateway.web import Customer, WorkOff

SUBMIT = "/paid/image/remove/background"
HOST = "https://cutout.test"


async def submit(client: AsyncClient, customer: Customer, source: bytes, **fields: str) -> Response:
    return await client.post(
        SUBMIT, headers=customer.x_api_key, files={"file": ("photo.jpg", source)}, data=fields
    )


async def completed(client: AsyncClient, customer: Customer, work: WorkOff, source: bytes) -> str:
    task_id: str = (await submit(client, customer, source, model="cutout-lite")).json()["task_id"]
    await work()
    return task_id


def assert_refused(answer: Response, status: int, code: str) -> None:
    document = answer.json()
    assert (answer.status_code, document["error"]) == (status, code)
    assert document.keys() == {"success", "status", "message", "error"}
    assert (document["success"], document["status"]) == (False, "failed")
