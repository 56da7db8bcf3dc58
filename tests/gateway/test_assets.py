"""What pages load: found, compressed, kept by browsers until it changes, and nothing beside it."""

import gzip

import pytest
from httpx import AsyncClient

from gateway.web.assets import LIBRARIES, asset_of, url_of


@pytest.mark.parametrize("name", ["site.css", "site.js", *LIBRARIES])
async def test_an_asset_is_kept_for_good_under_its_versioned_address(
    client: AsyncClient, name: str
) -> None:
    answer = await client.get(url_of(name))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == asset_of(name).content


async def test_an_old_version_gets_the_new_content_and_is_not_kept(client: AsyncClient) -> None:
    answer = await client.get("/assets/site.css?v=000000000000")
    assert answer.status_code == 200
    assert "immutable" not in answer.headers["cache-control"]


async def test_a_script_comes_compressed_to_whoever_can_read_it(client: AsyncClient) -> None:
    async with client.stream("GET", url_of("chart.js")) as packed:
        raw = b"".join([part async for part in packed.aiter_raw()])
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == asset_of("chart.js").content
    plain = await client.get(url_of("chart.js"), headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == asset_of("chart.js").content


@pytest.mark.parametrize(
    "name",
    [
        "nothing.css",
        "..%2f..%2fsettings.py",
        "%2e%2e%2fpages.py",
        "package.json",
        "node_modules",
        ".npmrc",
        "axe.min.js",
    ],
)
async def test_nothing_else_can_be_read(client: AsyncClient, name: str) -> None:
    assert (await client.get(f"/assets/{name}")).status_code == 404
