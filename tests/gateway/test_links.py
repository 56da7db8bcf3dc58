"""Download links: only ours, only as signed, only in their time."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LinkInvalidError, ResultExpiredError
from gateway.links import Links

HOUR = timedelta(hours=1)
JOB = UUID("6e2ae05c-2005-4524-b17e-baa91014dc78")


class Clock:
    now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> Links:
    return Links("https://cut.example/", "secret", clock=clock)


def query_of(url: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(url).query)
    return query["expires"][0], query["signature"][0]


def test_a_link_begins_with_the_public_url_and_names_the_job(links: Links) -> None:
    url = links.sign(JOB, "png", HOUR)
    assert url.startswith(f"https://cut.example/r/{JOB}.png?expires=1795003600&signature=")


def test_a_genuine_link_opens_until_its_last_second(links: Links, clock: Clock) -> None:
    expires, signature = query_of(links.sign(JOB, "png", HOUR))
    links.verify(JOB, "png", expires, signature)
    clock.now += 3599
    links.verify(JOB, "png", expires, signature)
    clock.now += 1
    with pytest.raises(ResultExpiredError):
        links.verify(JOB, "png", expires, signature)


def test_a_link_opens_one_result_in_one_format_at_one_time(links: Links) -> None:
    expires, signature = query_of(links.sign(JOB, "png", HOUR))
    for job_id, extension, until in [
        (uuid4(), "png", expires),
        (JOB, "webp", expires),
        (JOB, "png", str(int(expires) + 1)),
    ]:
        with pytest.raises(LinkInvalidError):
            links.verify(job_id, extension, until, signature)


def test_a_forged_link_is_invalid_even_when_it_says_it_is_over(links: Links) -> None:
    with pytest.raises(LinkInvalidError):
        links.verify(JOB, "png", "1", "A" * 43)


def test_another_secret_signs_other_links(links: Links, clock: Clock) -> None:
    expires, signature = query_of(
        Links("https://cut.example", "other", clock=clock).sign(JOB, "png", HOUR)
    )
    with pytest.raises(LinkInvalidError):
        links.verify(JOB, "png", expires, signature)


@pytest.mark.parametrize(
    "expires",
    [
        "",
        "0",
        "-1",
        "+1795003600",
        " 1795003600",
        "1795003600.0",
        "1e10",
        "01795003600",
        "1795003600".translate({ord("1"): "\N{FULLWIDTH DIGIT ONE}"}),
        "9" * 13,
    ],
)
def test_a_time_has_one_spelling(links: Links, expires: str) -> None:
    _, signature = query_of(links.sign(JOB, "png", HOUR))
    with pytest.raises(LinkInvalidError):
        links.verify(JOB, "png", expires, signature)


@given(st.text(max_size=80))
def test_no_text_is_a_signature(text: str) -> None:
    links = Links("https://cut.example", "secret", clock=Clock())
    with pytest.raises(LinkInvalidError):
        links.verify(JOB, "png", "1795003600", text)


@pytest.mark.parametrize("extension", ["", "PNG", "../x", "p|g", "a" * 9])
def test_only_a_plain_extension_is_signed(links: Links, extension: str) -> None:
    with pytest.raises(ValueError, match="extension"):
        links.sign(JOB, extension, HOUR)
    with pytest.raises(LinkInvalidError):
        links.verify(JOB, extension, "1795003600", "x")
