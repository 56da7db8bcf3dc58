"""deploy/: what can be held to the code without a container engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from gateway.cli.root import COMMANDS
from gateway.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = ("migrate", "gateway", "worker")
NOT_SETTINGS = {"CUTOUT_OWNER_PASSWORD", "CUTOUT_DATABASE_PASSWORD"}


def test_each_variable_is_a_setting() -> None:
    known = {f"CUTOUT_{name}".upper() for name in Settings.model_fields} | NOT_SETTINGS
    assert set(re.findall(r"CUTOUT_[A-Z_]+", DOCKERFILE + COMPOSE)) <= known


def test_each_secret_of_the_compose_file_is_in_its_example() -> None:
    example = (ROOT / "deploy" / "compose.env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


@pytest.mark.parametrize("name", OURS)
def test_each_service_runs_a_command_that_exists_without_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["command"][0] in COMMANDS
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True


def test_only_the_migration_has_the_owners_password() -> None:
    having = [name for name in OURS if "CUTOUT_OWNER_PASSWORD" in str(SERVICES[name])]
    assert having == ["migrate"]


def test_only_loopback_is_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_runs_as_an_ordinary_user_from_hashed_wheels() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert "HEALTHCHECK" in last_stage
    assert "--require-hashes" in DOCKERFILE


def test_what_the_image_copies_is_there() -> None:
    for line in re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE):
        assert (ROOT / line).exists()
        assert f"!{line.rstrip('/')}" in (ROOT / ".dockerignore").read_text().splitlines()
