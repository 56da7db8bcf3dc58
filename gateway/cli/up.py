"""`cutout up`: the whole stack on this machine until Ctrl-C."""

import signal
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gateway.cli.marks import say_failed, say_hint
from gateway.cli.samples import Samples
from gateway.embedded.process import EmbeddedError
from gateway.embedded.stack import (
    DEMO_BURST,
    DEMO_CONCURRENCY_MAX,
    DEMO_PLAN,
    DEMO_RATE_PER_MINUTE,
    FIRST_PORT,
    DemoAccount,
    Stack,
    read_up_file,
)

app = typer.Typer(add_completion=False)

DataDir = Annotated[Path, typer.Option(help="Holds the database, the results and the keys.")]
DATA_DIR = Path(".cutout")


@app.command()
def up(
    port: Annotated[
        int | None, typer.Option(help="8000, or the next free one.", min=1, max=65535)
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Run Postgres, Valkey, gateway and worker here until Ctrl-C, with a demo account."""
    screen = Console(highlight=False)
    if facts := read_up_file(data_dir):
        place = data_dir / "up.json"
        say_failed(
            Console(stderr=True),
            f"running at {facts['url']} already, as process {facts['pids']['up']}; "
            f"its key is in {place}",
        )
        raise typer.Exit(1)
    stack = Stack(data_dir, port=port)
    samples = Samples(stack.data_dir / "samples")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup it stays ignored
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        with screen.status("Starting") as status:
            stack.start(lambda step: status.update(f"Starting: {step}"))
        if port is None and stack.port != FIRST_PORT:
            say_hint(screen, f"port {FIRST_PORT} is taken, using {stack.port}")
        samples.start()
        _print_welcome(screen, stack, samples)
        stack.tend(Event(), lambda name: say_hint(screen, f"{name} had ended; it is started again"))
    except KeyboardInterrupt:
        screen.print("Stopping …")
    except EmbeddedError as exc:
        say_failed(Console(stderr=True), str(exc))
        raise typer.Exit(1) from exc
    finally:
        _ignore_signals()
        samples.stop()
        stack.stop()


def _interrupt(_: int, __: FrameType | None) -> None:
    """Make SIGTERM and a closed terminal end the command as Ctrl-C does."""
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Let the stop be finished: it has its own deadlines."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _password(account: DemoAccount) -> str:
    return escape(account.admin_password) or "as you have set it"


def _print_welcome(screen: Console, stack: Stack, samples: Samples) -> None:
    """Say where it is and give one call in each dialect that can be pasted."""
    if stack.account is None:
        return
    key = stack.account.api_key
    screen.print(
        f"""
[bold green]Cutout Gateway is up[/] at [bold]{stack.url}[/]   (open it; Ctrl-C stops it)

  API key   {key}
  Account   {stack.account.account_id}, {DEMO_PLAN} plan
  Limits    {DEMO_RATE_PER_MINUTE:,} calls a minute, burst {DEMO_BURST:,},
            {DEMO_CONCURRENCY_MAX} at once: this key's own, above the plan's
  Admin     {stack.url}/admin as {stack.account.admin_email}, password {_password(stack.account)}
  Facts     {escape(str(stack.up_path))}
  Settings  {escape(str(stack.env_path))}   (read by `cutout account`, `cutout key`, `cutout db`)
  Logs      {escape(str(stack.services.run_dir))}/*.log

Bound to loopback only; therefore image_url may name this machine (CUTOUT_FETCH_ALLOW_LOOPBACK).
Weights that are not installed are replaced by the best that are, with a warning in the answer.
""",
        soft_wrap=True,
    )
    screen.print("Codia dialect, answers with a link:\n", style="dim")
    screen.out(
        f"curl '{stack.url}/v1/open/remove_bg' \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"""  --data '{{ "image_url": "{samples.url_of("astronaut")}" }}'\n"""
    )
    screen.print("Revid dialect, answers with a task to ask for:\n", style="dim")
    screen.out(
        f"curl -X POST '{stack.url}/paid/image/remove/background' \\\n"
        f"  -H 'x-api-key: {key}' \\\n"
        f"  -F 'file=@{samples.path_of('coffee')}' \\\n"
        "  -F 'model=u2net'\n"
        f"\ncurl '{stack.url}/api/get/TASK_ID'\n"
    )
