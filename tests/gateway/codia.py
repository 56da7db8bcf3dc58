"""How the tests of the Codia dialect call it and read what it says."""

from collections.abc import AsyncIterator

from httpx import AsyncClient, Response

from billing.credits import adjust
from gateway.app import House
from tests.gateway.web import Customer

CALL = "/v1/open/remove_bg"
HOST = "https://cutout.test"


async def upload(
    client: AsyncClient, customer: Customer, source: bytes, name: str = "image", **fields: str
) -> Response:
    files = {name: ("photo.jpg", source)}
    return await client.post(CALL, headers=customer.bearer, files=files, data=fields)


async def trickle(client: AsyncClient, customer: Customer) -> tuple[Response, int]:
    """Send an upload piece by piece; also tell how many of its ten pieces were read."""
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 1
            yield bytes(10_000)

    headers = customer.bearer | {"Content-Type": "multipart/form-data; boundary=b"}
    return await client.post(CALL, headers=headers, content=pieces()), read


async def spend(house: House, customer: Customer, amount: int) -> None:
    async with house.sessions.begin() as db:
        await adjust(
            db, customer.account_id, amount=-amount, ref="spent", actor="test", reason="spent"
        )


def path_of(answer: Response) -> str:
    url: str = answer.json()["data"]["image_url"]
    assert url.startswith(f"{HOST}/r/")
    return url.removeprefix(HOST)


def assert_refused(answer: Response, status: int, code: int) -> None:
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code)
    assert document.keys() == {"code", "message", "data"}
    assert document["message"]
    assert document["data"] is None
