"""The `cutout` command."""

from gateway.cli.root import main

__all__ = ["main"]
