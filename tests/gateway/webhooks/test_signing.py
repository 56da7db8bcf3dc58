"""Signatures of webhooks: the published vector, and secrets that are nobody else's."""

import base64
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.signing import derive_secret, master_of, sign, written
from tests.gateway.bare import settings_with
from tests.gateway.webhooks.receiver import Heard

# The vector that the libraries of Standard Webhooks are tested with.
PUBLISHED_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLISHED_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
AT = datetime.fromtimestamp(1614265330, UTC)


def test_the_published_vector_comes_out() -> None:
    secret = base64.b64decode(PUBLISHED_SECRET.removeprefix("whsec_"))
    body = b'{"test": 2432232314}'
    assert sign("msg_p5jXN8AQM9LWM0D4loKWxJek", AT, body, [secret]) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": PUBLISHED_SIGNATURE,
    }
    assert written(secret) == PUBLISHED_SECRET


@given(st.uuids(), st.uuids(), st.integers(1, 99), st.integers(1, 99), st.binary())
def test_only_the_account_and_version_that_signed_can_check(
    mine: UUID, other: UUID, version: int, other_version: int, body: bytes
) -> None:
    secret = derive_secret(b"master", mine, version)
    headers = sign("msg_1", AT, body, [secret])
    heard = Heard("/", headers, body)
    assert heard.is_signed_with(written(secret))
    assert not Heard("/", headers, body + b" ").is_signed_with(written(secret))
    if (mine, version) != (other, other_version):
        assert not heard.is_signed_with(written(derive_secret(b"master", other, other_version)))


def test_a_secret_of_its_own_makes_webhooks_independent_of_links() -> None:
    account_id = uuid4()
    shared = master_of(settings_with(link_secret="one" * 12))
    assert derive_secret(shared, account_id, 1) != shared
    first = master_of(settings_with(link_secret="one" * 12, webhook_secret="mine" * 8))
    second = master_of(settings_with(link_secret="two" * 12, webhook_secret="mine" * 8))
    assert first == second != shared
