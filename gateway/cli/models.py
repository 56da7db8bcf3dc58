"""`cutout models`: which weights there are, which are here, and whether they are the right ones."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core import WEIGHTS, CoreError, find_weights, load_segmenter
from gateway.cli.download import DownloadError, download, url_of
from gateway.cli.listing import show_table
from gateway.cli.marks import say_done, say_failed, say_hint
from gateway.settings import rembg_weights_dir

app = typer.Typer(add_completion=False, no_args_is_help=True)
screen = Console(highlight=False)

PROSE: Final = ("good for", "licence of the weights")
MEBIBYTE: Final = 2**20

WeightsDir = Annotated[
    Path | None, typer.Option("--weights-dir", help="U2NET_HOME, or ~/.u2net, where not given.")
]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All, if none.")]


@app.command("list")
def list_(weights_dir: WeightsDir = None) -> None:
    """List the models, what each is good for, and which are installed."""
    folder = folder_for(weights_dir)
    table = Table("model", "good for", "installed", "licence of the weights", box=None)
    table.add_column("MiB", justify="right")
    for name, weights in WEIGHTS.items():
        place = _find(name, folder)
        table.add_row(
            name,
            weights.good_for,
            "ships with the project" if weights.is_embedded else ("yes" if place else "no"),
            weights.licence,
            f"{weights.size_bytes / MEBIBYTE:.1f}",
        )
    show_table(screen, table, folding=PROSE)
    screen.print(f"\nWeights are looked for in {escape(str(folder))}.", soft_wrap=True)


@app.command()
def pull(names: Annotated[list[str], typer.Argument()], weights_dir: WeightsDir = None) -> None:
    """Download weights from where rembg publishes them; kept only if their checksum is ours."""
    folder = folder_for(weights_dir)
    for name in names:
        if name not in WEIGHTS:
            say_failed(screen, f"{name}: not a model; see `cutout models list`")
            raise typer.Exit(2)
        if _find(name, folder) is None:
            _download(name, folder)
    _verify(names, folder)


@app.command()
def verify(names: Names = None, weights_dir: WeightsDir = None) -> None:
    """Check installed weights against their checksums; exit code 1 if one differs."""
    folder = folder_for(weights_dir)
    installed = [name for name in WEIGHTS if _find(name, folder) is not None]
    _verify(names or installed, folder)


def folder_for(asked: Path | None) -> Path:
    """Find the folder of weights: the one named, rembg's by its variable, or rembg's default."""
    return asked or rembg_weights_dir() or Path("~/.u2net").expanduser()


def _find(name: str, folder: Path) -> Path | None:
    try:
        return find_weights(name, folder)
    except CoreError:
        return None


def _download(name: str, folder: Path) -> None:
    try:
        download(name, folder, screen)
    except DownloadError as exc:
        place = folder / WEIGHTS[name].file_name
        say_failed(screen, f"{name} could not be downloaded: {exc}")
        say_hint(screen, f"by hand: {url_of(name)} to {place}; `cutout models verify` checks it")
        raise typer.Exit(1) from exc


def _verify(names: list[str], folder: Path) -> None:
    failed = False
    for name in names:
        try:
            load_segmenter(name, folder)
        except CoreError as exc:
            failed = True
            say_failed(screen, f"{name}: {exc}")
        else:
            say_done(screen, f"{name}: {_find(name, folder)}")
    if failed:
        raise typer.Exit(1)
