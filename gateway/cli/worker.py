"""`cutout worker`: work on queued jobs."""

import runpy

import typer

app = typer.Typer(add_completion=False)


@app.command()
def worker() -> None:
    """Work on queued jobs; its settings are in the environment (docs/settings.md)."""
    runpy.run_module("gateway.worker", run_name="__main__")
