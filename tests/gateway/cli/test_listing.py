"""What the terminal shows of tables, statements and the demo's cutouts."""

import io
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console
from rich.table import Table

from billing.statements import StatementLine
from gateway.cli.account import statement_table
from gateway.cli.calls import Made
from gateway.cli.demo import print_made, total
from gateway.cli.listing import show_table

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def shown(table: Table, *, is_terminal: bool, width: int, folding: list[str]) -> list[str]:
    file = io.StringIO()
    screen = Console(file=file, force_terminal=is_terminal, width=width, color_system=None)
    show_table(screen, table, folding=folding)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_an_id_is_whole_however_narrow_the_screen(*, is_terminal: bool, width: int) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    table = Table("account", "name", "job", box=None)
    for id_ in ids:
        table.add_row(id_, "A shop with a long name and [b]brackets[/]", id_)

    lines = shown(table, is_terminal=is_terminal, width=width, folding=["name"])

    for id_ in ids:
        assert any(line.count(id_) == 2 for line in lines)
    if not is_terminal:
        assert len(lines) == 4


def test_a_terminal_of_80_columns_folds_words_and_shows_ids() -> None:
    table = Table("account", "name", box=None)
    table.add_row(str(uuid4()), "word " * 30)
    lines = shown(table, is_terminal=True, width=80, folding=["name"])
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


def line(op: str, ref: str) -> StatementLine:
    return StatementLine(
        at=NOON,
        seq=1,
        op=op,
        ref=ref,
        job_id=None,
        amount=5_000,
        balance=50_000,
        available=50_000,
        held=25,
        actor="cli:test",
        reason="",
    )


def test_a_statement_fits_80_columns_with_short_references_and_keeps_them_whole_in_a_pipe() -> None:
    top_up, period = f"topup:cli-{uuid4()}", "plan:2026-11-20T12:00:09.865180+00:00"
    lines = [line("grant", top_up), line("grant", period)]

    def printed(*, is_terminal: bool) -> list[str]:
        table = statement_table(lines, is_short=is_terminal)
        return shown(table, is_terminal=is_terminal, width=80, folding=[])[1:]

    on_terminal, in_pipe = printed(is_terminal=True), printed(is_terminal=False)
    assert [row.split()[-1] for row in on_terminal] == [top_up[:18], "plan:2026-11-20"]
    assert max(map(len, on_terminal)) <= 80
    assert [row.split()[-1] for row in in_pipe] == [top_up, period]


def made(model: str = "cutout-lite", charged_credits: int = 25) -> Made:
    return Made(
        name="coffee",
        dialect="Codia",
        link="http://127.0.0.1:8000/r/1.png",
        path=Path("coffee-codia.png"),
        elapsed_ms=400,
        model=model,
        confidence=0.912,
        charged_credits=charged_credits,
    )


def test_the_demo_shows_links_and_says_how_long_they_live_and_that_the_small_model_ran() -> None:
    def printed(cutout: Made, *, is_stopping: bool) -> str:
        file = io.StringIO()
        print_made([cutout], Console(file=file, width=200), is_stopping=is_stopping)
        return file.getvalue()

    short_lived = printed(made(), is_stopping=True)
    assert "http://127.0.0.1:8000/r/1.png" in short_lived
    assert "the links end with this demo's stack" in short_lived
    assert "cutout-lite, confidence 0.91" in short_lived
    assert "cutout-lite ran (2 MB, ships with the project)" in short_lived
    long_lived = printed(made("u2net"), is_stopping=False)
    assert "http://127.0.0.1:8000/r/1.png" in long_lived
    assert "the links end" not in long_lived
    assert "ships with the project" not in long_lived


def test_the_demo_adds_up_what_was_charged() -> None:
    assert total([made()] * 6) == "6 cutouts × 25 = 150 credits"  # noqa: RUF001 - times
    mixed = [made(), made(), made(charged_credits=0)]
    assert total(mixed) == "2 cutouts × 25 + 1 cutouts × 0 = 50 credits"  # noqa: RUF001 - times
