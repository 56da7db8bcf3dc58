"""`cutout account`, `cutout key`, `cutout db`: the operator's commands, on a real database."""

import re
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import account, db, key
from gateway.embedded.services import free_port

runner = CliRunner()


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, database_owner_url: str
) -> None:
    """Say by environment which database, as a deployment does."""
    monkeypatch.setenv("CUTOUT_DATABASE_URL", database_url)
    monkeypatch.setenv("CUTOUT_DATABASE_OWNER_URL", database_owner_url)
    monkeypatch.setenv("CUTOUT_KEY_PEPPERS", '{"1": "pepper-of-the-tests-and-nobody-else"}')
    monkeypatch.setenv("CUTOUT_LINK_SECRET", "link-secret-of-the-tests-and-nobody-else")
    monkeypatch.setenv("COLUMNS", "160")


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def account_id() -> str:
    return done(runner.invoke(account.app, ["create", "Acme[eu]", "--plan", "starter"])).strip()


def test_an_account_begins_with_its_plans_credits(account_id: str) -> None:
    UUID(account_id)
    line = next(
        line
        for line in done(runner.invoke(account.app, ["list"])).splitlines()
        if account_id in line
    )
    assert line.split()[1:] == ["Acme[eu]", "active", "5,000", "0", "0"]


def test_a_grant_is_in_the_statement_and_its_reference_works_once(account_id: str) -> None:
    grant = ["grant", account_id, "100", "--ref", f"invoice-{uuid4()}"]
    assert "5,100 available" in done(runner.invoke(account.app, grant))

    again = runner.invoke(account.app, grant)

    assert again.exit_code == 1
    lines = done(runner.invoke(account.app, ["statement", account_id])).splitlines()
    assert lines[1].split()[3:5] == ["+5,000", "5,000"]
    assert lines[2].split()[3:5] == ["+100", "5,100"]
    assert len(lines) == 3
    last = done(runner.invoke(account.app, ["statement", account_id, "--last", "1"]))
    assert len(last.splitlines()) == 2


def test_an_account_that_is_not_there_and_a_plan_that_is_not_there_are_refused() -> None:
    missing = runner.invoke(account.app, ["grant", str(uuid4()), "100"])
    assert missing.exit_code == 1
    assert "Traceback" not in missing.output
    assert runner.invoke(account.app, ["create", "Acme", "--plan", "none"]).exit_code == 1


def test_a_key_is_printed_once_rotated_and_revoked(account_id: str) -> None:
    plaintext = done(runner.invoke(key.app, ["create", account_id, "--name", "shop"])).strip()
    assert re.fullmatch(r"cg_live_\w{46}", plaintext)
    key_id = plaintext[8:16]

    listed = done(runner.invoke(key.app, ["list", account_id]))
    assert key_id in listed
    assert plaintext not in listed

    rotated = done(runner.invoke(key.app, ["rotate", key_id, "--grace-hours", "1"])).strip()
    assert rotated != plaintext
    done(runner.invoke(key.app, ["revoke", rotated[8:16]]))

    listed = done(runner.invoke(key.app, ["list", account_id]))
    states = {line.split()[0]: line.split()[-1] for line in listed.splitlines()[1:]}
    assert states == {key_id: "rotated", rotated[8:16]: "revoked"}
    assert runner.invoke(key.app, ["revoke", "nokey000"]).exit_code == 1


def test_a_key_that_was_rotated_without_grace_is_listed_as_expired(account_id: str) -> None:
    key_id = done(runner.invoke(key.app, ["create", account_id])).strip()[8:16]
    done(runner.invoke(key.app, ["rotate", key_id, "--grace-hours", "0"]))
    listed = done(runner.invoke(key.app, ["list", account_id]))
    assert [line.split()[-1] for line in listed.splitlines()[1:]] == ["expired", "active"]


def test_migrating_twice_changes_nothing() -> None:
    assert "up to date" in done(runner.invoke(db.app, ["migrate"]))


def test_without_a_database_the_command_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "KEY_PEPPERS", "LINK_SECRET"):
        monkeypatch.delenv(f"CUTOUT_{name}")
    result = runner.invoke(account.app, ["list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "CUTOUT_DATABASE_URL" in result.output
    assert str(tmp_path) in result.output
    assert "--data-dir" in result.output


def test_a_stack_that_does_not_run_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUTOUT_DATABASE_URL")
    nobody = f"postgresql://app:secret@127.0.0.1:{free_port()}/cutout"
    (tmp_path / "up.env").write_text(f"CUTOUT_DATABASE_URL='{nobody}'\n")
    monkeypatch.delenv("CUTOUT_DATABASE_OWNER_URL")

    for command, words in ((account.app, ["list"]), (db.app, ["migrate"])):
        result = runner.invoke(command, [*words, "--data-dir", str(tmp_path)])

        assert result.exit_code == 2
        assert result.output.splitlines() == [
            f"✗ the stack of {tmp_path} is not running: `cutout up --data-dir {tmp_path}`"
        ]


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setenv("CUTOUT_DATABASE_URL", f"postgresql://app:secret@127.0.0.1:{port}/cutout")
    result = runner.invoke(account.app, ["list"])
    assert result.exit_code == 2
    assert result.output == f"✗ no database answers at 127.0.0.1:{port}\n"


@pytest.mark.parametrize("words", [["create"], ["list"]])
def test_an_account_that_is_not_there_has_no_keys(words: list[str]) -> None:
    missing = str(uuid4())
    result = runner.invoke(key.app, [*words, missing])
    assert result.exit_code == 1
    assert result.output == f"✗ no account {missing}\n"


def test_what_up_noted_is_used_where_the_environment_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, account_id: str
) -> None:
    monkeypatch.delenv("CUTOUT_DATABASE_URL")
    (tmp_path / "up.env").write_text(f"CUTOUT_DATABASE_URL='{database_url}'\n")
    listed = done(runner.invoke(account.app, ["list", "--data-dir", str(tmp_path)]))
    assert account_id in listed
