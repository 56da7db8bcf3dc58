"""Settings for what needs no server: adapters that are tried alone."""

from typing import Any

from gateway.settings import Settings


def settings_with(**overrides: Any) -> Settings:
    known: dict[str, Any] = {
        "database_url": "postgresql://nobody@127.0.0.1/nothing",
        "key_peppers": {1: "pepper-of-the-tests-and-nobody-else"},
        "link_secret": "link-secret-of-the-tests-and-nobody-else",
    }
    return Settings(**(known | overrides))
