"""No key makes or is given one that may do more than itself."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.keys import KeyFacts, end_of
from billing.tables import ApiKey, PlanVersion
from gateway.console.powers import COUNTS, RANKS, Hands, kinds_for, order_of
from gateway.console.visitor import Visitor
from gateway.web.refusals import FormError

PLAN = PlanVersion(rate_per_minute=300, burst=60, concurrency_max=16, queue_class="standard")
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(microsecond=0)
NETWORKS = ("203.0.113.0/24", "203.0.113.128/25", "198.51.100.0/24", "2001:db8::/32", "0.0.0.0/0")


def row(**known: Any) -> ApiKey:
    usual = {
        "id": uuid4(),
        "key_id": "abcdefgh",
        "env": "live",
        "scopes": ["admin"],
        "rate_per_minute": None,
        "burst": None,
        "concurrency_max": None,
        "queue_class": None,
        "ip_allow": None,
        "budget_credits": None,
        "expires_at": None,
        "grace_until": None,
        "revoked_at": None,
    }
    return ApiKey(**(usual | known))


def visitor_with(key: ApiKey) -> Visitor:
    usual = "priority" if key.env == "enterprise" else PLAN.queue_class
    facts = KeyFacts(
        api_key_id=key.id,
        account_id=uuid4(),
        account_status="active",
        env=key.env,
        scopes=frozenset(key.scopes),
        plan="starter",
        rate_per_minute=key.rate_per_minute or PLAN.rate_per_minute,
        burst=key.burst or PLAN.burst,
        concurrency_max=key.concurrency_max or PLAN.concurrency_max,
        queue_class=key.queue_class or usual,
        result_ttl=timedelta(days=1),
        expires_at=key.expires_at,
    )
    return Visitor(facts, key, "Ada", "word")


limit = st.none() | st.integers(1, 1000)
days = st.none() | st.integers(1, 30).map(lambda n: TODAY + timedelta(days=n))
keys = st.builds(
    row,
    env=st.sampled_from(RANKS),
    rate_per_minute=limit,
    burst=limit,
    concurrency_max=limit,
    queue_class=st.sampled_from([None, "standard", "priority"]),
    ip_allow=st.none() | st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=2),
    budget_credits=st.none() | st.integers(0, 500),
    expires_at=days,
    grace_until=days,
)
number = st.just("") | st.integers(0, 1200).map(str)
forms = st.fixed_dictionaries(
    {
        "name": st.just("Shop"),
        "env": st.sampled_from(RANKS),
        "rate_per_minute": number,
        "burst": number,
        "concurrency_max": number,
        "budget_credits": number,
        "ip_allow": st.sampled_from(["", *NETWORKS, "203.0.113.7", "no network"]),
        "last_day": st.just("") | st.integers(-2, 40).map(lambda n: f"{TODAY + n * DAY:%Y-%m-%d}"),
    }
)


@given(mine=keys, form=forms)
def test_what_a_key_may_order_is_never_more_than_it_has(
    mine: ApiKey, form: Mapping[str, str]
) -> None:
    visitor = visitor_with(mine)
    try:
        order = order_of(form, ["cutout"], visitor)
    except FormError:
        return
    made = row(**order)
    facts = visitor_with(made).key
    assert RANKS.index(made.env) <= RANKS.index(mine.env)
    for name in COUNTS:
        assert getattr(facts, name) <= getattr(visitor.key, name)
    assert visitor.key.queue_class == "priority" or facts.queue_class == "standard"
    if my_end := end_of(mine):
        assert made.expires_at is not None
        assert made.expires_at <= my_end
    if mine.ip_allow is not None:
        assert made.ip_allow is not None
    if mine.budget_credits is not None:
        assert made.env == "test"
    assert Hands(visitor, PLAN).may_rotate(made), "what it may make it may also be given anew"


@given(mine=keys, other=keys)
def test_a_key_is_given_the_new_text_of_none_that_has_more(mine: ApiKey, other: ApiKey) -> None:
    visitor, facts = visitor_with(mine), visitor_with(other).key
    if not Hands(visitor, PLAN).may_rotate(other):
        return
    assert RANKS.index(other.env) <= RANKS.index(mine.env)
    assert all(getattr(facts, name) <= getattr(visitor.key, name) for name in COUNTS)
    assert visitor.key.queue_class == "priority" or facts.queue_class == "standard"
    assert mine.ip_allow is None or other.ip_allow is not None
    assert mine.budget_credits is None or other.env == "test"
    if my_end := end_of(mine):
        assert other.expires_at is not None
        assert other.expires_at <= my_end


@given(mine=keys)
def test_a_key_may_always_rotate_itself(mine: ApiKey) -> None:
    assert Hands(visitor_with(mine), PLAN).may_rotate(mine)


def test_a_network_is_within_another_only_of_its_own_kind() -> None:
    visitor = visitor_with(row(ip_allow=["203.0.113.0/24", "2001:db8::/32"]))
    form = {"name": "x", "env": "live", "ip_allow": "203.0.113.64/26, 2001:db8:1::/48"}
    assert order_of(form, ["read"], visitor)["ip_allow"] == ["203.0.113.64/26", "2001:db8:1::/48"]
    for outside in ("203.0.112.0/23", "198.51.100.1", "::/0", "2001:db9::/32"):
        with pytest.raises(FormError, match="may be used from"):
            order_of(form | {"ip_allow": outside}, ["read"], visitor)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        *(("name", name) for name in ("", " ", "x" * 81, "a\x00b")),
        *(("env", env) for env in ("", "root", "enterprise")),
        *(("rate_per_minute", said) for said in ("0", "-1", "301", "1e3", "٣", "9" * 30)),
        ("budget_credits", "-5"),
        *(("last_day", said) for said in ("tomorrow", "2020-01-01", "9999-12-31T", "10000-01-01")),
        ("ip_allow", "300.1.1.1"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(field: str, said: str) -> None:
    form = {"name": "Shop", "env": "live"} | {field: said}
    with pytest.raises(FormError):
        order_of(form, ["cutout"], visitor_with(row()))


@pytest.mark.parametrize("scopes", [[], ["root"], ["cutout", "root"]])
def test_only_scopes_that_there_are(scopes: list[str]) -> None:
    with pytest.raises(FormError, match="scopes"):
        order_of({"name": "Shop", "env": "live"}, scopes, visitor_with(row()))


def test_a_key_with_a_budget_makes_only_test_keys() -> None:
    visitor = visitor_with(row(budget_credits=100))
    assert kinds_for(visitor) == ("test",)
    with pytest.raises(FormError, match="has a budget"):
        order_of({"name": "Shop", "env": "live"}, ["cutout"], visitor)
