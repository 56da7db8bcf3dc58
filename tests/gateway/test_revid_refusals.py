"""What the Revid dialect refuses: who may read a task, and what never becomes one."""

from uuid import uuid4

import pytest
from httpx import AsyncClient

from billing.posting import Balance
from tests.gateway.revid import SUBMIT, assert_refused, completed, submit
from tests.gateway.web import Customer, MakeClient, NewCustomer, ReadBalance, WorkOff


async def test_a_task_is_read_by_its_id_and_not_with_anothers_key(
    client: AsyncClient,
    customer: Customer,
    new_customer: NewCustomer,
    astronaut: bytes,
    work: WorkOff,
) -> None:
    task_id = await completed(client, customer, work, astronaut)
    stranger = await new_customer()
    for path in (f"/api/get/{task_id}", f"/output/{task_id}_output.png"):
        assert (await client.get(path)).status_code == 200
        assert (await client.get(path, headers=customer.x_api_key)).status_code == 200
        assert (await client.get(path, headers=stranger.x_api_key)).status_code == 404
        assert (await client.get(path, headers={"x-api-key": "made up"})).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/get/nothing",
        f"/api/get/{uuid4()}",
        f"/output/{uuid4()}_output.png",
        "/output/..%2f..%2fetc%2fpasswd",
        "/output/nothing",
        "/api/other",
        "/paid/other",
        "/output",
    ],
)
async def test_what_is_not_there_is_a_404_in_this_dialects_shape(
    client: AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "success": False,
        "status": "failed",
        "message": "Not found",
        "error": "not_found",
    }


async def test_a_result_of_the_other_dialect_is_not_reached_around_its_signature(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    answer = await client.post(
        "/v1/open/remove_bg", headers=customer.bearer, files={"image": astronaut}
    )
    job_id = answer.json()["data"]["image_url"].partition("/r/")[2].partition(".")[0]
    assert (await client.get(f"/api/get/{job_id}")).status_code == 404
    assert (await client.get(f"/output/{job_id}_output.png")).status_code == 404


async def test_a_file_is_asked_for(client: AsyncClient, customer: Customer) -> None:
    answer = await client.post(SUBMIT, headers=customer.x_api_key, files={"other": b"x"})
    assert_refused(answer, 400, "invalid_request")


async def test_a_picture_under_another_name_and_an_empty_one_are_told_so(
    client: AsyncClient, customer: Customer, astronaut: bytes
) -> None:
    files = {"image": ("photo.jpg", astronaut)}
    misplaced = await client.post(SUBMIT, headers=customer.x_api_key, files=files)
    assert_refused(misplaced, 400, "invalid_request")
    assert misplaced.json()["message"].endswith("unknown field image; the picture goes in file")
    empty = await submit(client, customer, b"")
    assert_refused(empty, 400, "invalid_request")
    assert empty.json()["message"].endswith("the file is empty")


async def test_clothes_are_refused_before_there_is_a_task_where_no_model_tells_them_apart(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    answer = await submit(client, customer, astronaut, clothes="upper", model="cutout-lite")
    assert_refused(answer, 400, "invalid_request")
    assert answer.json()["message"].endswith("clothes: cutout-lite does not tell clothes apart")
    assert await balance(customer) == Balance(250, 0, 0, 0, 0)


async def test_clothes_of_a_model_that_is_not_installed_are_refused_as_that(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    answer = await submit(client, customer, astronaut, clothes="upper", model="u2net_cloth_seg")
    assert_refused(answer, 503, "model_not_installed")
    assert answer.json()["message"].endswith("The model is not installed: u2net_cloth_seg")
    other = await submit(client, customer, astronaut, clothes="upper", model="u2net")
    assert_refused(other, 400, "invalid_request")
    assert other.json()["message"].endswith("clothes: u2net does not tell clothes apart")
    assert await balance(customer) == Balance(250, 0, 0, 0, 0)


@pytest.mark.parametrize("wait", ["abc", "-1", "nan", ""])
async def test_a_wait_that_is_no_time_is_told_what_it_must_be(
    client: AsyncClient, customer: Customer, astronaut: bytes, wait: str
) -> None:
    task_id = (await submit(client, customer, astronaut)).json()["task_id"]
    answer = await client.get(f"/api/get/{task_id}", params={"wait": wait})
    assert_refused(answer, 400, "invalid_request")
    assert answer.json()["message"].endswith("wait must be a number of seconds, 0 or more")


async def test_an_unknown_model_is_refused_and_the_known_ones_named(
    client: AsyncClient, customer: Customer, astronaut: bytes, balance: ReadBalance
) -> None:
    answer = await submit(client, customer, astronaut, model="u3net")
    assert_refused(answer, 400, "unknown_model")
    assert "isnet-general-use" in answer.json()["message"]
    assert answer.json()["message"].endswith(", auto")
    assert (await balance(customer)).available == 250


async def test_no_key_and_an_unknown_key_are_refused(client: AsyncClient, astronaut: bytes) -> None:
    files = {"file": astronaut}
    assert_refused(await client.post(SUBMIT, files=files), 401, "missing_key")
    bearer = await client.post(SUBMIT, files=files, headers={"Authorization": "Bearer KEY"})
    assert bearer.json()["message"] == 'An API key is required: send it as "x-api-key: KEY"'
    made_up = await client.post(SUBMIT, files=files, headers={"x-api-key": "made up"})
    assert_refused(made_up, 401, "unknown_key")


async def test_weights_that_are_missing_are_the_contracts_own_sentence(
    make_client: MakeClient, astronaut: bytes
) -> None:
    client, customer = await make_client(missing_weights="refuse", preload_models=["cutout-lite"])
    answer = await submit(client, customer, astronaut, model="u2net")
    assert_refused(answer, 503, "model_not_installed")
    assert answer.json()["message"].startswith("rembg not available")
