"""`cutout remove`: cut photographs out on this machine, without server or account."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from core import CoreError, CutoutOptions, Segmenter, cut_out, load_segmenter, resolve_model
from core.weights import AUTO
from gateway.cli.marks import say_done, say_failed
from gateway.settings import rembg_weights_dir

app = typer.Typer(add_completion=False)

EXIT_SOME_FAILED: Final = 1


@app.command()
def remove(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photographs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the cutouts.")],
    model: Annotated[str, typer.Option(help="See `cutout models list`.")] = AUTO,
    weights_dir: Annotated[
        Path | None, typer.Option(help="Folder of .onnx files; U2NET_HOME where not given.")
    ] = None,
) -> None:
    """Cut photographs out here. Exit code 0: all done; 1: some could not be cut out; 2: none tried.

    Existing files are never overwritten: a taken name gets a number.
    """
    screen = Console(stderr=True)
    segmenter = _segmenter_for(model, weights_dir or rembg_weights_dir(), screen)
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen) as progress:
        task = progress.add_task("Cutting out", total=len(photos))
        for photo in photos:
            progress.update(task, description=escape(photo.name))
            try:
                image = cut_out(photo.read_bytes(), segmenter, CutoutOptions())
                path = write_beside(output, photo.stem, image.extension, image.image)
            except (CoreError, OSError) as exc:
                failed += 1
                say_failed(progress.console, f"{photo}: {_reason(exc)}")
            else:
                say_done(progress.console, f"{photo} → {path}")
            progress.advance(task)
    if failed:
        screen.print(f"{failed} of {len(photos)} could not be cut out.")
        raise typer.Exit(EXIT_SOME_FAILED)


def write_beside(folder: Path, stem: str, extension: str, content: bytes) -> Path:
    """Write a file whole or not at all, under the first of `stem`, `stem-2`, … that is free."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as partial:
        try:
            partial.write(content)
            partial.flush()
            # Asking for the name and taking it are one step: link refuses a name that exists.
            for path in _names(folder, stem, extension):
                try:
                    os.link(partial.name, path)
                except FileExistsError:
                    continue
                path.chmod(0o644)
                return path
        finally:
            Path(partial.name).unlink()
    raise AssertionError("the names do not end")


def _names(folder: Path, stem: str, extension: str) -> Iterator[Path]:
    yield folder / f"{stem}.{extension}"
    number = 2
    while True:
        yield folder / f"{stem}-{number}.{extension}"
        number += 1


def _segmenter_for(model: str, folder: Path | None, screen: Console) -> Segmenter:
    """Load the weights, or end the command with the reason."""
    try:
        name, warning = resolve_model(model, folder, is_substitution_allowed=model == AUTO)
        if warning:
            screen.print(warning)
        return load_segmenter(name, folder, threads=os.cpu_count() or 1)
    except CoreError as exc:
        say_failed(screen, f"{model}: {_reason(exc)}. See `cutout models list`.")
        raise typer.Exit(2) from exc


def _reason(exc: Exception) -> str:
    """Say it in words: the exception's own, or what its class is for."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or (type(exc).__doc__ or type(exc).__name__).splitlines()[0].rstrip(".")
