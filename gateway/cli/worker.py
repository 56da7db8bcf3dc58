"""`cutout worker`: work on queued jobs."""

import runpy

import typer

from gateway.cli.refusals import settings_or_exit

app = typer.Typer(add_completion=False)


@app.command()
def worker() -> None:
    """Work on queued jobs; its settings are in the environment (docs/settings.md)."""
    settings_or_exit()
    runpy.run_module("gateway.worker", run_name="__main__")
