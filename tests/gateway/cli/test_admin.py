"""`cutout admin`: who may sign in, as the person at the terminal says."""

from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import admin

PASSWORD = "correct horse battery staple"
runner = CliRunner()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("CUTOUT_DATABASE_URL", database_url)
    monkeypatch.setenv("CUTOUT_KEY_PEPPERS", '{"1": "pepper-of-the-tests-and-nobody-else"}')
    monkeypatch.setenv("CUTOUT_LINK_SECRET", "link-secret-of-the-tests-and-nobody-else")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def email() -> str:
    return f"olga-{uuid4().hex[:8]}@example.com"


def call(*arguments: str, said: str | None = None) -> Result:
    return runner.invoke(admin.app, list(arguments), input=said)


def row_of(email: str) -> str:
    return next((line for line in call("list").stdout.splitlines() if email in line), "")


def test_somebody_is_let_in_and_listed(email: str) -> None:
    created = call("create", email.upper(), "--role", "finance", said=f"{PASSWORD}\n{PASSWORD}\n")
    assert created.exit_code == 0, created.output
    assert PASSWORD not in created.output
    assert row_of(email).split()[:3] == [email, "finance", "off"]


def test_a_generated_password_is_printed_and_long(email: str) -> None:
    made = call("create", email, "--generate").stdout.splitlines()[0]
    assert len(made) >= 24


def test_the_same_person_is_not_made_twice(email: str) -> None:
    assert call("create", email, "--generate").exit_code == 0
    again = call("create", email, "--generate")
    assert again.exit_code == 1
    assert "can sign in already" in again.output


@pytest.mark.parametrize(
    ("arguments", "said", "words"),
    [
        (["nobody"], f"{PASSWORD}\n{PASSWORD}\n", "name@example.com"),
        (["a@example.com"], "short\nshort\n", "at least 12"),
        (["b@example.com", "--role", "king"], f"{PASSWORD}\n{PASSWORD}\n", "viewer, support"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(
    arguments: list[str], said: str, words: str
) -> None:
    refused = call("create", *arguments, said=said)
    assert refused.exit_code == 1
    assert words in refused.output
    assert "Traceback" not in refused.output


def test_a_disabled_person_is_listed_as_such(email: str) -> None:
    call("create", email, "--generate")
    done = call("disable", email, "--reason", "left")
    assert done.exit_code == 0, done.output
    assert row_of(email).split()[-1] == "disabled"


@pytest.mark.parametrize("command", ["password", "codes-off"])
def test_who_is_not_there_is_told(command: str) -> None:
    more = ["--generate"] if command == "password" else []
    refused = call(command, "nobody@example.com", *more)
    assert refused.exit_code == 1
    assert "nobody signs in as" in refused.output
