"""`cutout demo`: real photographs through both dialects, and the bill for them."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.advice import weights_command
from gateway.cli.calls import Calls, DemoError, Made
from gateway.cli.marks import say_done, say_failed, say_hint
from gateway.cli.samples import NAMES, Samples
from gateway.cli.sheet import Row, write_contact_sheet
from gateway.embedded.process import EmbeddedError
from gateway.embedded.stack import Stack, read_up_file
from gateway.settings import child_environment

app = typer.Typer(add_completion=False)

HTTP_DEADLINE_S: Final = 60.0
SMALL: Final = "cutout-lite"
STATEMENT_LINES: Final = 20


@app.command()
def demo(
    data_dir: Annotated[
        Path, typer.Option(help="As of `cutout up`; one that runs is used.")
    ] = Path(".cutout"),
) -> None:
    """Cut real photographs out through both dialects, and show links, contact sheet and bill."""
    screen = Console(highlight=False)
    started = time.monotonic()
    try:
        with _running_stack(data_dir, screen) as (facts, goes_on):
            _show(facts, data_dir.absolute(), screen, goes_on=goes_on)
    except (EmbeddedError, httpx.HTTPError, DemoError) as exc:
        say_failed(Console(stderr=True), str(exc))
        raise typer.Exit(1) from exc
    screen.print(f"\nDone in {time.monotonic() - started:.1f} s. Next:\n")
    screen.print(
        "  make up                                  the same stack, kept running, with curls\n"
        "  .venv/bin/cutout remove PHOTO -o OUT     your own photographs, no server\n"
        "  docs/dialects.md                         every option, header and error",
        soft_wrap=True,
    )


@contextmanager
def _running_stack(data_dir: Path, screen: Console) -> Iterator[tuple[dict[str, Any], bool]]:
    """Use the stack that runs in the folder, or start one and stop it again; say which it was."""
    if facts := read_up_file(data_dir):
        screen.print(f"Using the stack that runs at {facts['url']}")
        yield facts, True
        return
    stack = Stack(data_dir)
    try:
        with screen.status("Starting") as status:
            stack.start(lambda step: status.update(f"Starting: {step}"))
        facts = read_up_file(data_dir)
        if facts is None:
            raise DemoError(f"{stack.up_path} is missing")
        yield facts, False
    finally:
        with screen.status("Stopping"):
            stack.stop()


def _show(facts: dict[str, Any], data_dir: Path, screen: Console, *, goes_on: bool) -> None:
    folder = data_dir / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    samples = Samples(data_dir / "samples")
    samples.start()
    try:
        with httpx.Client(
            base_url=facts["url"], timeout=HTTP_DEADLINE_S, trust_env=False
        ) as client:
            calls = Calls(client, facts["api_key"], samples, folder)
            made = _cut_out_all(calls, screen)
            print_made(made, screen, is_stopping=not goes_on)
            _print_failures(calls, screen)
    finally:
        samples.stop()
    sheet = folder / "contact-sheet.png"
    rows = [Row(f"{m.name}, {m.dialect}", samples.path_of(m.name), m.path) for m in made]
    write_contact_sheet(rows, sheet)
    screen.print(f"\n[bold]Contact sheet[/]  {escape(str(sheet))}")
    _print_statement(facts["account_id"], data_dir, screen)
    screen.print(f"\n  {total(made)}")


def _cut_out_all(calls: Calls, screen: Console) -> list[Made]:
    """Send every photograph through both dialects at once, and show how far each is."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeElapsedColumn(), console=screen) as progress,
        ThreadPoolExecutor() as pool,
    ):

        def through(dialect: str) -> list[Made]:
            task = progress.add_task(f"{dialect}", total=len(NAMES))
            made = []
            for name in NAMES:
                progress.update(task, description=f"{dialect}: {name}")
                made.append(calls.make(dialect, name))
                progress.advance(task)
            progress.update(task, description=f"{dialect}: done")
            return made

        codia, revid = pool.map(through, ("Codia", "Revid"))
    return [made for pair in zip(codia, revid, strict=True) for made in pair]


def print_made(made: list[Made], screen: Console, *, is_stopping: bool) -> None:
    """List the cutouts with their links, and say where these will not outlive the demo."""
    screen.print()
    for one in made:
        how = f"{one.elapsed_ms:>5} ms  {one.model}, confidence {one.confidence:.2f}"
        say_done(screen, f"{one.name:<10} {one.dialect}  {how}  {one.path}")
        screen.print(f"    {one.link}", style="dim", soft_wrap=True)
    if is_stopping:
        say_hint(screen, "the links end with this demo's stack; those of `make up` live on")
    if any(one.model == SMALL for one in made):
        say_hint(
            screen,
            f"{SMALL} ran (2 MB, ships with the project); better: {weights_command('u2net')}",
        )


def total(made: list[Made]) -> str:
    """Add up what the answers said was charged."""
    counts = Counter(one.charged_credits for one in made)
    parts = " + ".join(f"{count} cutouts × {credits_}" for credits_, count in counts.items())  # noqa: RUF001 - times
    return f"{parts} = {sum(one.charged_credits for one in made)} credits"


def _print_failures(calls: Calls, screen: Console) -> None:
    screen.print("\n[bold]Two calls that fail, and cost nothing[/]")
    screen.print(
        f"  Codia, image_url of a text file:  {escape(calls.fail_codia())}", soft_wrap=True
    )
    screen.print(f"  Revid, a GIF:  {escape(calls.fail_revid())}", soft_wrap=True)


def _print_statement(account_id: str, data_dir: Path, screen: Console) -> None:
    screen.print("\n[bold]Statement[/]  25 credits a cutout, failures free\n")
    done = subprocess.run(  # noqa: S603 - our own command
        [
            *(sys.executable, "-m", "gateway.cli", "account", "statement", account_id),
            *("--last", str(STATEMENT_LINES), "--data-dir", str(data_dir)),
        ],
        env=child_environment({"PGSSLMODE": "disable"}, {}),
        check=False,
    )
    if done.returncode != 0:
        raise DemoError("no statement")
