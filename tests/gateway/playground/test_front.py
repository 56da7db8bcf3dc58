"""The page at `/` over ASGI: what it says to developers, and what must never be in it."""

from httpx import AsyncClient

from gateway.settings import Settings
from gateway.web.assets import asset_of
from tests.gateway.web import PUBLIC_URL, MakeClient

SAMPLE_BYTES_MAX = 60 * 1024


async def test_the_front_page_shows_both_calls_at_the_public_url(client: AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"curl '{PUBLIC_URL}/v1/open/remove_bg'" in page.text
    assert f"curl -X POST '{PUBLIC_URL}/paid/image/remove/background'" in page.text


async def test_the_front_page_goes_on_to_the_cutout(client: AsyncClient) -> None:
    page = await client.get("/")
    assert f"curl '{PUBLIC_URL}/api/get/TASK_ID?wait=20'" in page.text
    assert page.text.count("curl -o cutout.png 'IMAGE_URL'") == 2


async def test_the_front_page_leads_to_the_schema_the_console_and_the_dashboard(
    client: AsyncClient,
) -> None:
    page = await client.get("/")
    for path in ("/schema", "/console", "/admin"):
        assert f'href="{path}"' in page.text


async def test_a_page_can_be_asked_for_without_its_body(client: AsyncClient) -> None:
    for path in ("/", "/schema"):
        head, page = await client.head(path), await client.get(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["Content-Type"] == page.headers["Content-Type"]


async def test_the_public_url_cannot_write_markup(make_client: MakeClient) -> None:
    client, _ = await make_client(public_url="http://x/<script>alert(1)</script>\"'")
    page = await client.get("/")
    assert "<script>alert" not in page.text
    assert 'data-url="http://x/&lt;script' in page.text


async def test_the_key_behind_the_page_is_not_in_it(
    client: AsyncClient, settings: Settings
) -> None:
    assert settings.playground_key is not None
    page = await client.get("/")
    assert "data-demo" in page.text
    assert settings.playground_key.get_secret_value() not in page.text + str(page.headers)


async def test_models_that_would_be_refused_are_not_offered(make_client: MakeClient) -> None:
    client, _ = await make_client(missing_weights="refuse", weights_dir=None)
    page = await client.get("/")
    assert '<option value="cutout-lite">' in page.text
    assert '<option value="u2net">' not in page.text


async def test_models_that_others_stand_in_for_are_offered_as_such(client: AsyncClient) -> None:
    page = await client.get("/")
    _, _, absent = page.text.partition("Not installed: another runs instead")
    assert '<option value="u2net">' in absent


async def test_the_samples_are_small(client: AsyncClient) -> None:
    for name in ("astronaut.jpg", "coffee.jpg", "chelsea.jpg"):
        sample = await client.get(f"/assets/{name}")
        assert sample.headers["content-type"] == "image/jpeg"
        assert len(sample.content) <= SAMPLE_BYTES_MAX


def test_every_doubt_that_the_core_may_have_is_put_into_words() -> None:
    words = asset_of("play-words.js").content.decode()
    for reason in (
        "low_resolution",
        "colour_collision",
        "motion_blur",
        "touches_frame",
        "no_clear_subject",
    ):
        assert f"{reason}: " in words
