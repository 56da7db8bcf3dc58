"""The settings and the two pages that tell people about them."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings, child_environment, read_settings

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-the-tests-and-nobody-else"
REQUIRED: dict[str, Any] = {
    "database_url": "postgresql://cutout:x@127.0.0.1/cutout",
    "key_peppers": {1: "pepper-of-the-tests-and-nobody-else"},
    "link_secret": "link-secret-of-the-tests-and-nobody-else",
}
# No default: the example shows what one looks like.
EXAMPLES = {
    "database_url",
    "database_owner_url",
    "key_peppers",
    "link_secret",
    "webhook_secret",
    "playground_key",
    "weights_dir",
}


def test_the_page_has_one_heading_per_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    headings = re.findall(r"^### CUTOUT_(\w+)$", page, re.MULTILINE)
    assert [heading.lower() for heading in headings] == list(Settings.model_fields)


def test_the_example_has_every_setting_and_its_true_default(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    live = tmp_path / "env"
    shown = re.sub(r"^# (CUTOUT_)", r"\1", example, flags=re.MULTILINE)
    live.write_text(shown)
    with pytest.raises(ValidationError, match="at least 32"):  # as it is copied, it never starts
        read_settings(live)
    filled = shown.replace('"1": ""', f'"1": "{SECRET}"').replace("=''", f"='{SECRET}'")
    live.write_text(filled)
    read = read_settings(live)
    default = Settings(**REQUIRED)
    assert re.findall(r"^CUTOUT_(\w+)=", live.read_text(), re.MULTILINE) == [
        name.upper() for name in Settings.model_fields
    ]
    for name in set(Settings.model_fields) - EXAMPLES:
        assert getattr(read, name) == getattr(default, name), name


def test_the_page_tells_the_same_defaults_as_the_example() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    told = dict(re.findall(r"^### (CUTOUT_\w+)\n\nDefault `(.*)`\.$", page, re.MULTILINE))
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^# (CUTOUT_\w+)='?(.*?)'?$", example, re.MULTILINE))
    assert told.items() <= shown.items()
    assert len(told) == len(Settings.model_fields) - len(EXAMPLES)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"hold_ttl": timedelta(minutes=2)}, "hold_ttl"),
        ({"lease": timedelta(seconds=9)}, "two heartbeats"),
        ({"bind_host": "0.0.0.0", "fetch_allow_loopback": True}, "public bind_host"),  # noqa: S104
        ({"key_peppers": {}}, "at least one version"),
        ({"key_peppers": {1: ""}}, "at least 32"),
        ({"link_secret": "short"}, "at least 32"),
        ({"webhook_secret": "short"}, "at least 32"),
        ({"upload_bytes_max": 0}, "greater than 0"),
        ({"no_such_setting": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other_never_start(
    overrides: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(**(REQUIRED | overrides))


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "up.env"
    file.write_text(
        "CUTOUT_DATABASE_URL='postgresql://a:b@127.0.0.1/c'\n"
        'CUTOUT_KEY_PEPPERS=\'{"1": "pepper-of-the-tests-and-nobody-else"}\'\n'
        "CUTOUT_LINK_SECRET='link-secret-of-the-tests-and-nobody-else'\n"
        "CUTOUT_BIND_PORT='9000'\n"
    )
    monkeypatch.setenv("CUTOUT_BIND_PORT", "9001")
    assert read_settings(file).bind_port == 9001
    monkeypatch.delenv("CUTOUT_BIND_PORT")
    assert read_settings(file).bind_port == 9000


def test_a_folder_of_weights_where_we_may_not_look_is_none(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o000)
    # Root may look anywhere: as root it is asked as somebody else.
    asking = (
        "import os; from gateway.settings import rembg_weights_dir as asked\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "print(asked())"
    )
    for folder in (shut, shut / "weights"):
        done = subprocess.run(
            [sys.executable, "-c", asking],
            env=child_environment({"U2NET_HOME": str(folder)}, {}),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "None\n"


def test_secrets_are_not_in_what_is_printed() -> None:
    assert "pepper" not in repr(Settings(**REQUIRED)).replace("key_peppers", "")


def test_a_child_gets_ours_over_the_persons_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUTOUT_A", "person")
    monkeypatch.setenv("CUTOUT_B", "person")
    environment = child_environment(
        {"CUTOUT_A": "ours"}, {"CUTOUT_B": "default", "CUTOUT_C": "default"}
    )
    assert [environment[f"CUTOUT_{name}"] for name in "ABC"] == ["ours", "person", "default"]
