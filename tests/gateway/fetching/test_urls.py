"""URLs are read strictly: one meaning, or none."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UrlMalformedError, UrlNotAllowedError
from gateway.fetching.urls import Target, target_from

REFUSED = [
    "",
    "image.png",
    "//example.com/a.png",
    "ftp://example.com/a.png",
    "file:///etc/passwd",
    "gopher://example.com/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "http:example.com",
    "http:/example.com",
    "http://",
    "http:///a.png",
    "http://:80/",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com\t/a",
    "http://example.com/a b",
    "http://example.com/\r\nHost: evil",
    "\nhttp://example.com/",
    "http://example.com\x00.evil.com/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:-1/",
    "http://example.com:+80/",
    "http://example.com:8 0/",
    "http://example.com:80:80/",
    "http://example.com:８０/",  # noqa: RUF001  # that is the trick
    # One address, many spellings: only the usual one is read.
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0X7F.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://127.0.0.256/",
    "http://1.2.3.4.5/",
    "http://example.0x1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://１２７.0.0.1/",  # noqa: RUF001  # that is the trick
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%2f@example.com/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]evil.com/",
    "http://evil.com[::1]/",
    "http://[::1%25lo]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.fe80]/",
    "http://[127.0.0.1]/",
    "http://-example.com/",
    "http://example-.com/",
    "http://exa$mple.com/",
    "http://example..com/",
    "http://example.com../",
    "http://.example.com/",
    "http://" + "a" * 64 + ".com/",
    "http://" + ".".join(["a" * 60] * 5) + "/",
    "http://example.com/" + "a" * 9000,
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_can_be_read_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowedError):
        target_from(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", ("https", "example.com", 443, "/")),
        ("HTTP://EXAMPLE.com:8080/A.png", ("http", "example.com", 8080, "/A.png")),
        ("http://example.com./a", ("http", "example.com", 80, "/a")),
        (
            "https://bücher.example/ü?q=ü#f",
            ("https", "xn--bcher-kva.example", 443, "/%C3%BC?q=%C3%BC"),
        ),
        ("https://faß.de/", ("https", "xn--fa-hia.de", 443, "/")),
        ("https://my_bucket.example/a", ("https", "my_bucket.example", 443, "/a")),
        (
            "https://example.com/a%20b?x=%2F&y=[1]",
            ("https", "example.com", 443, "/a%20b?x=%2F&y=%5B1%5D"),
        ),
        (
            "https://example.com?x=http://127.0.0.1/",
            ("https", "example.com", 443, "/?x=http://127.0.0.1/"),
        ),
    ],
)
def test_a_plain_url_means_what_it_says(url: str, target: tuple[str, str, int, str]) -> None:
    assert target_from(url) == Target(*target, literal=None)


@pytest.mark.parametrize("host", ["93.184.216.34", "127.0.0.1"])
def test_an_address_in_its_usual_form_is_an_address(host: str) -> None:
    assert target_from(f"http://{host}:81/").literal == IPv4Address(host)


def test_an_ipv6_address_is_named_in_brackets() -> None:
    target = target_from("https://[2606:4700:0::1]:8443/a")
    assert target.literal == IPv6Address("2606:4700::1")
    assert target.place == target.host_header == "[2606:4700::1]:8443"
    assert target.url == "https://[2606:4700::1]:8443/a"


def test_what_is_logged_has_no_query() -> None:
    assert target_from("https://a.example/x?sig=s3cret").url_without_query == "https://a.example/x"


def test_a_redirect_is_relative_to_where_it_was_met() -> None:
    target = target_from("https://a.example/x/y?z")
    assert target.redirect("../w").url == "https://a.example/w"
    assert target.redirect("//b.example/").url == "https://b.example/"
    assert target_from("http://a.example/").redirect("https://b.example/").scheme == "https"


@pytest.mark.parametrize(
    "location", ["http://a.example/", "file:///etc/passwd", "https://u@a.example/", "//127.1/"]
)
def test_a_redirect_is_read_as_strictly(location: str) -> None:
    with pytest.raises(UrlNotAllowedError):
        target_from("https://a.example/").redirect(location)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://[", "//"]))
def test_any_text_is_a_target_or_a_refusal(text: str, prefix: str) -> None:
    try:
        target = target_from(prefix + text)
    except UrlNotAllowedError:
        return
    assert target.host.isascii()
    assert target.path.isascii()
    assert target.path.startswith("/")
    assert target_from(target.url) == target


@pytest.mark.parametrize("url", ["http://10.0.0.1:99999/", "http://2130706433/", "http://a@b.com/"])
def test_nothing_about_a_host_counts_as_a_fault_of_syntax_to_be_told(url: str) -> None:
    with pytest.raises(UrlNotAllowedError) as refused:
        target_from(url)
    assert not isinstance(refused.value, UrlMalformedError)


def test_what_a_server_redirects_to_is_no_fault_of_the_callers_syntax() -> None:
    with pytest.raises(UrlNotAllowedError) as refused:
        target_from("https://a.example/").redirect("file:///etc/passwd")
    assert not isinstance(refused.value, UrlMalformedError)
