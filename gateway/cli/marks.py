"""A line that says whether something went well.

What it says is never read as markup: file names, account names and error texts may hold brackets.
"""

from rich.console import Console
from rich.text import Text


def say_done(screen: Console, text: str) -> None:
    """Print a green tick and `text`."""
    _say(screen, "✓", "green", text)


def say_failed(screen: Console, text: str) -> None:
    """Print a red cross and `text`."""
    _say(screen, "✗", "red", text)


def say_hint(screen: Console, text: str) -> None:
    """Print a dot and `text`: neither good nor bad."""
    _say(screen, "·", "dim", text)


def _say(screen: Console, mark: str, style: str, text: str) -> None:
    screen.print(Text.assemble((mark, style), " ", text), soft_wrap=True)
