"""The OpenAPI document: whole, and true, as far as a replay of its examples can tell."""

from collections.abc import Iterator
from typing import Any

from httpx import AsyncClient, Response
from litestar import Litestar

from core.confidence import REASONS
from gateway.app import House
from gateway.dialects.codia import RemoveBgForm
from gateway.dialects.forms import OptionsForm
from gateway.dialects.openapi import document
from gateway.errors import INTERNAL, METHOD_NOT_ALLOWED, PROBLEMS
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.deliveries import deliveries_of
from gateway.webhooks.endpoints import set_alert_url
from tests.gateway.web import Customer, MakeClient, NewCustomer, WorkOff, web_server

DOCUMENT = document("https://cutout.test")
CODIA = "/v1/open/remove_bg"
REVID = "/paid/image/remove/background"
# Pages for machines and people, not for callers of the API.
OTHER_PATHS = {"/schema", "/schema/openapi.json", "/metrics", "/health/live", "/health/ready"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def resolved(thing: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in thing:
        return thing
    found: Any = DOCUMENT
    for step in thing["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Tell whether `value` is of the type that `schema` says: the few words our document uses."""
    if "anyOf" in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    match schema["type"]:
        case "object":
            return (
                isinstance(value, dict)
                and set(schema["required"]) == set(value)
                and all(fits(value[name], of) for name, of in schema["properties"].items())
            )
        case "array":
            return isinstance(value, list) and all(fits(one, schema["items"]) for one in value)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case name:
            return value in schema.get("enum", [value]) and isinstance(
                value, {"string": str, "boolean": bool, "null": type(None)}[name]
            )


def assert_as_documented(answer: Response, path: str, method: str) -> None:
    """Hold an answer's body and headers to what the document says of its status."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    told = responses[str(answer.status_code)]
    for name in told["headers"]:
        is_sometimes = name in {"Idempotent-Replayed", "X-Credits-Charged"}
        assert is_sometimes or name in answer.headers, name
    kind = answer.headers["Content-Type"]
    if "json" in kind:
        assert fits(answer.json(), told["content"][kind]["schema"]), answer.text
    else:
        assert kind in told["content"]


def test_the_document_knows_every_route_and_no_other(app: Litestar) -> None:
    routes = {
        (handler_path, method)
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        for method in handler.http_methods
        for handler_path in [route.path_format]
        if method not in {"OPTIONS", "HEAD"}
    }
    told = {(path, method) for path, method, _ in operations()}
    assert {(p, m) for p, m in routes if p not in OTHER_PATHS and p.startswith(API)} == told


API = ("/v1", "/r/", "/paid", "/api", "/output")


def test_the_document_is_served_and_names_no_outside_host() -> None:
    assert "http://" not in str(DOCUMENT)
    hosts = {word.split("/")[2] for word in str(DOCUMENT).split("'") if word.startswith("https://")}
    assert hosts <= {"cutout.test", "cutout.example", "example.com"}


async def test_the_document_can_be_had_from_the_gateway(client: AsyncClient) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.json() == DOCUMENT


def test_every_field_of_the_forms_is_described() -> None:
    for form in (RemoveBgForm, OptionsForm):
        told = DOCUMENT["components"]["schemas"][form.__name__]["properties"]
        assert set(told) == set(form.__struct_fields__)
        assert all(told[name].get("description") for name in told)


def test_every_problem_is_shown_somewhere() -> None:
    shown = {
        code
        for _, _, operation in operations()
        for status, told in operation["responses"].items()
        if status != "200"
        for content in told["content"].values()
        for code in content["examples"]
    }
    everywhere = {METHOD_NOT_ALLOWED.code}  # of no operation: the path is right, the method is not
    assert shown == {problem.code for problem in (*PROBLEMS.values(), INTERNAL)} - everywhere


def test_every_example_is_what_its_schema_says() -> None:
    for _, _, operation in operations():
        for told in operation["responses"].values():
            for content in told["content"].values():
                for example in content.get("examples", {}).values():
                    assert fits(example["value"], content["schema"])


def test_every_header_that_is_named_is_described() -> None:
    for _, _, operation in operations():
        for told in operation["responses"].values():
            assert all(resolved(header)["description"] for header in told["headers"].values())


async def test_the_synchronous_example_replays(make_client: MakeClient, astronaut: bytes) -> None:
    async with web_server(astronaut) as (place, _):
        client, customer = await make_client(fetch_allowed_hosts=[place])
        examples = DOCUMENT["paths"][CODIA]["post"]["requestBody"]["content"]["application/json"]
        body = examples["examples"]["seed"]["value"] | {"image_url": f"http://{place}/a.jpg"}
        answer = await client.post(CODIA, headers=customer.bearer, json=body)
    assert_as_documented(answer, CODIA, "POST")
    download = await client.get(answer.json()["data"]["image_url"])
    assert_as_documented(download, "/r/{filename}", "GET")
    refused = await client.get("/r/nothing.png")
    assert_as_documented(refused, "/r/{filename}", "GET")


async def test_the_asynchronous_examples_replay(
    client: AsyncClient, customer: Customer, work: WorkOff, astronaut: bytes
) -> None:
    for source in (astronaut, b"GIF89a"):
        created = await client.post(REVID, headers=customer.x_api_key, files={"file": source})
        assert_as_documented(created, REVID, "POST")
        path = f"/api/get/{created.json()['task_id']}"
        assert_as_documented(await client.get(path), "/api/get/{task_id}", "GET")
        await work()
        ended = await client.get(path)
        assert_as_documented(ended, "/api/get/{task_id}", "GET")
        canceled = await client.delete(path, headers=customer.x_api_key)
        assert_as_documented(canceled, "/api/get/{task_id}", "DELETE")
        if ended.json()["status"] == "completed":
            download = await client.get(f"/output/{ended.json()['result']['image_filename']}")
            assert_as_documented(download, "/output/{filename}", "GET")
    assert_as_documented(await client.get("/output/x"), "/output/{filename}", "GET")


async def test_the_reports_examples_replay(
    client: AsyncClient, customer: Customer, work: WorkOff, astronaut: bytes
) -> None:
    await client.post(REVID, headers=customer.x_api_key, files={"file": astronaut})
    await work()
    for path in ("/v1/usage", "/v1/statement.csv"):
        told = {p["name"]: p["example"] for p in DOCUMENT["paths"][path]["get"]["parameters"]}
        for params in ({}, {"from": told["from"]}, {"to": "never"}):
            answer = await client.get(path, headers=customer.bearer, params=params)
            assert_as_documented(answer, path, "GET")
            assert answer.status_code == (400 if "to" in params else 200)


async def test_what_webhooks_tell_is_as_documented(
    client: AsyncClient, customer: Customer, work: WorkOff, house: House, astronaut: bytes
) -> None:
    async def start(source: bytes) -> str:
        fields = {"webhook_url": "https://example.com/hook"}
        answer = await client.post(
            REVID, headers=customer.x_api_key, data=fields, files={"file": source}
        )
        return f"/api/get/{answer.json()['task_id']}"

    async with house.sessions.begin() as db:
        await set_alert_url(db, customer.account_id, "https://example.com/alerts", actor="test")
    await client.delete(await start(astronaut), headers=customer.x_api_key)
    for source in (*[astronaut] * 5, b"GIF89a"):  # five: half of the free plan's credits
        await start(source)
        await work()

    async with house.sessions.begin() as db:
        deliveries = await deliveries_of(db, customer.account_id)
    assert {delivery.kind for delivery in deliveries} == set(DOCUMENT["webhooks"])
    for delivery in deliveries:
        event = Deliverer(house.sessions, house.settings).document_of(delivery)
        told = DOCUMENT["webhooks"][delivery.kind]["post"]["requestBody"]["content"]
        assert fits(event, told["application/json"]["schema"]), event


def test_the_reasons_are_told_one_by_one() -> None:
    schema = DOCUMENT["paths"][CODIA]["post"]["responses"]["200"]["content"]["application/json"]
    assert schema["schema"]["properties"]["reasons"]["items"]["enum"] == list(REASONS)
    assert "enum" not in schema["schema"]["properties"]["warnings"]["items"]


async def test_the_account_example_replays(
    client: AsyncClient, customer: Customer, new_customer: NewCustomer
) -> None:
    budgeted = await new_customer(budget_credits=100)
    for headers in (customer.bearer, budgeted.bearer, {"Authorization": "Bearer made-up"}):
        answer = await client.get("/v1/account", headers=headers)
        told = DOCUMENT["paths"]["/v1/account"]["get"]["responses"][str(answer.status_code)]
        kind = answer.headers["Content-Type"]
        assert fits(answer.json(), told["content"][kind]["schema"]), answer.text
