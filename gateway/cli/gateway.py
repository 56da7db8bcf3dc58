"""`cutout gateway`: serve the API."""

import socket
from typing import Annotated

import typer
import uvicorn

from gateway.app import create_app
from gateway.cli.refusals import settings_or_exit
from gateway.log import configure_logging

app = typer.Typer(add_completion=False)


@app.command()
def gateway(
    fd: Annotated[
        int | None, typer.Option(help="Serve on this inherited listening socket.", hidden=True)
    ] = None,
) -> None:
    """Serve the API; its settings are in the environment (docs/settings.md)."""
    configure_logging()
    settings = settings_or_exit()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.bind_host,
        port=settings.bind_port,
        loop="uvloop",
        http="httptools",
        log_config=None,  # ours: one line of JSON an event
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.shutdown_grace.total_seconds()),
    )
    uvicorn.Server(config).run(sockets=None if fd is None else [socket.socket(fileno=fd)])
