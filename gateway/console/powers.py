"""What one key may do to others: make none more powerful than itself, and lay hands on none.

Whoever holds a key can already do all that it does; through the console they gain nothing beyond
it. A rotation gives the new text away, so it follows the rule too; a key may always rotate itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from billing.keys import SCOPES, end_of
from billing.tables import ApiKey, PlanVersion
from gateway.console.visitor import Visitor
from gateway.web.refusals import ActRefusedError, FormError

RANKS: Final = ("test", "live", "enterprise")
"""Each kind may make and rotate those before it: a test key costs nothing and pays for nothing."""
COUNTS: Final = ("rate_per_minute", "burst", "concurrency_max")
LABELS: Final = {
    "rate_per_minute": "Calls a minute",
    "burst": "Calls in one burst",
    "concurrency_max": "Jobs at once",
    "budget_credits": "Credits a period",
    "last_day": "Last day",
    "ip_allow": "Only from these networks",
}
"""Of the form's fields of limits: what is refused is named as people see it."""
NUMBER_MAX: Final = 999_999_999
NAME_LENGTH_MAX: Final = 80
NETWORKS_MAX: Final = 50
HAS_BUDGET: Final = (
    "The key you signed in with has a budget. A key made with it could spend beyond that."
)

Network = IPv4Network | IPv6Network


def kinds_for(visitor: Visitor) -> tuple[str, ...]:
    """List the kinds of key that the visitor's may make, its own first."""
    kinds = RANKS[: RANKS.index(visitor.key.env) + 1]
    return tuple(reversed(kinds if visitor.api_key.budget_credits is None else kinds[:1]))


def order_of(form: Mapping[str, Any], scopes: list[str], visitor: Visitor) -> dict[str, Any]:
    """Read what key is to be made; what is left empty is as the visitor's own key has it.

    Raises:
        FormError: a field makes no sense, or asks for more than that key may do.
    """
    mine = visitor.api_key
    env = str(form.get("env", ""))
    if env not in kinds_for(visitor):
        is_capped = env in RANKS and mine.budget_credits is not None
        raise FormError(HAS_BUDGET if is_capped else "Your key cannot make a key of this kind.")
    if not scopes or not set(scopes) <= SCOPES:
        raise FormError("“May”: choose at least one of the scopes.")
    counts = {name: _count(form, name, getattr(visitor.key, name)) for name in COUNTS}
    return {
        "env": env,
        "name": _name(form),
        "scopes": scopes,
        "queue_class": mine.queue_class,
        "ip_allow": _networks(form, mine.ip_allow),
        "budget_credits": _number(form, "budget_credits", least=0),
        "expires_at": _end(form, end_of(mine)),
        **{name: getattr(mine, name) if given is None else given for name, given in counts.items()},
    }


def _name(form: Mapping[str, Any]) -> str:
    name = " ".join(str(form.get("name", "")).split())
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise FormError(f"“Name”: give the key one of at most {NAME_LENGTH_MAX} characters.")
    return name


def _count(form: Mapping[str, Any], name: str, most: int) -> int | None:
    number = _number(form, name, least=1)
    if number is not None and number > most:
        raise FormError(f"“{LABELS[name]}” is at most your own key's: {most:,}.")
    return number


def _number(form: Mapping[str, Any], name: str, *, least: int) -> int | None:
    said = str(form.get(name, "")).strip()
    if not said:
        return None
    is_number = said.isascii() and said.isdecimal() and len(said) <= len(str(NUMBER_MAX))
    if not is_number or int(said) < least:
        raise FormError(f"“{LABELS[name]}” is a whole number from {least} to {NUMBER_MAX:,}.")
    return int(said)


def _networks(form: Mapping[str, Any], mine: list[str] | None) -> list[str] | None:
    said = str(form.get("ip_allow", "")).replace(",", " ").split()
    if not said:
        return mine
    if len(said) > NETWORKS_MAX:
        raise FormError(f"“{LABELS['ip_allow']}” takes at most {NETWORKS_MAX}.")
    try:
        networks = [ip_network(text, strict=False) for text in said]
    except ValueError:
        raise FormError(
            f"“{LABELS['ip_allow']}”: a network is written 203.0.113.0/24 or 2001:db8::/32."
        ) from None
    if mine is not None and not _are_within(networks, mine):
        raise FormError(
            f"“{LABELS['ip_allow']}”: your own key may be used from {', '.join(mine)} alone."
        )
    return [str(network) for network in networks]


def _are_within(networks: list[Network], mine: list[str]) -> bool:
    return all(any(_is_within(one, ip_network(text)) for text in mine) for one in networks)


def _is_within(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)


def _end(form: Mapping[str, Any], mine: datetime | None) -> datetime | None:
    """Read the last day on which the key is to work."""
    said = str(form.get("last_day", "")).strip()
    if not said:
        return mine
    try:
        end = datetime.combine(date.fromisoformat(said), time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise FormError(f"“{LABELS['last_day']}” is a date, such as 2026-12-31.") from None
    if end <= datetime.now(UTC):
        raise FormError(f"“{LABELS['last_day']}” has passed.")
    if mine is not None and end > mine:
        raise FormError(
            f"“{LABELS['last_day']}”: your own key ends at {mine:%Y-%m-%d %H:%M} UTC, and no key"
            " outlives it."
        )
    return end


@dataclass(frozen=True, slots=True)
class Hands:
    """What the visitor's key may do to the account's keys."""

    visitor: Visitor
    plan: PlanVersion

    def may_revoke(self, key: ApiKey) -> bool:
        return RANKS.index(key.env) <= RANKS.index(self.visitor.key.env)

    def may_rotate(self, key: ApiKey) -> bool:
        """Tell whether the visitor's key may be given the new text of `key`."""
        if key.id == self.visitor.api_key.id:
            return True
        return self.may_revoke(key) and self._has_no_more(key)

    def _has_no_more(self, key: ApiKey) -> bool:
        mine, facts, my_end = self.visitor.api_key, self.visitor.key, end_of(self.visitor.api_key)
        counts = all(
            (getattr(key, name) or getattr(self.plan, name)) <= getattr(facts, name)
            for name in COUNTS
        )
        usual = "priority" if key.env == "enterprise" else self.plan.queue_class
        networks = None if key.ip_allow is None else [ip_network(text) for text in key.ip_allow]
        return (
            counts
            and facts.queue_class in {key.queue_class or usual, "priority"}
            and (mine.budget_credits is None or key.env == "test")
            and (
                mine.ip_allow is None
                or (networks is not None and _are_within(networks, mine.ip_allow))
            )
            and (my_end is None or (key.expires_at is not None and key.expires_at <= my_end))
        )

    def check_rotate(self, key: ApiKey) -> None:
        if not self.may_rotate(key):
            raise ActRefusedError("That key may do more than yours. Sign in with it to rotate it.")

    def check_revoke(self, key: ApiKey) -> None:
        if not self.may_revoke(key):
            raise ActRefusedError("Your key cannot end a key of that kind.")
