"""`cutout remove`: cut photographs out on this machine, without server or account."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from core import CoreError, CutoutOptions, Segmenter, cut_out, load_segmenter, resolve_model
from core.errors import WeightsNotInstalledError
from core.options import Format
from core.weights import AUTO
from gateway.cli.advice import weights_command
from gateway.cli.marks import say_done, say_failed
from gateway.settings import rembg_weights_dir

app = typer.Typer(add_completion=False)

EXIT_SOME_FAILED: Final = 1
EXIT_NONE_TRIED: Final = 2
FORMATS: Final[Mapping[str, Format]] = {".png": "png", ".webp": "webp"}
PICTURE_SUFFIXES: Final = {*FORMATS, ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".avif"}


@app.command()
def remove(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photographs.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the cutouts; for one photograph, also a name in .png or .webp.",
        ),
    ],
    model: Annotated[str, typer.Option(help="See `cutout models list`.")] = AUTO,
    weights_dir: Annotated[
        Path | None, typer.Option(help="Folder of .onnx files; U2NET_HOME where not given.")
    ] = None,
) -> None:
    """Cut photographs out here. Exit code 0: all done; 1: some could not be cut out; 2: none tried.

    Existing files are never overwritten: a taken name in a folder gets a number.
    """
    screen = Console(stderr=True, highlight=False)
    target = _target(photos, output, screen)
    segmenter = _segmenter_for(model, weights_dir or rembg_weights_dir(), screen)
    folder = output if target is None else output.parent
    _make(folder, screen)
    options = CutoutOptions(format=FORMATS[target.suffix.lower()] if target else "png")
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen) as progress:
        task = progress.add_task("Cutting out", total=len(photos))
        for photo in photos:
            progress.update(task, description=escape(photo.name))
            try:
                image = cut_out(photo.read_bytes(), segmenter, options)
                names = iter([target]) if target else _names(output, photo.stem, image.extension)
                path = write_new(folder, names, image.image)
            except (CoreError, OSError) as exc:
                failed += 1
                say_failed(progress.console, f"{photo}: {_reason(exc)}")
            else:
                how = f"{image.model}, confidence {image.confidence:.2f}"
                say_done(progress.console, f"{photo} → {path}  ({how})")
            progress.advance(task)
    if failed:
        screen.print(f"{failed} of {len(photos)} could not be cut out.")
        raise typer.Exit(EXIT_SOME_FAILED)


def write_new(folder: Path, names: Iterator[Path], content: bytes) -> Path:
    """Write a file whole or not at all, under the first of the `names` in `folder` that is free.

    Raises:
        FileExistsError: all are taken.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as partial:
        try:
            partial.write(content)
            partial.flush()
            # Asking for the name and taking it are one step: link refuses a name that exists.
            for path in names:
                try:
                    os.link(partial.name, path)
                except FileExistsError:
                    continue
                path.chmod(0o644)
                return path
        finally:
            Path(partial.name).unlink()
    raise FileExistsError(errno.EEXIST, "there is such a file already")


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
        say_failed(screen, _way_to(model, exc))
        raise typer.Exit(EXIT_NONE_TRIED) from exc


def _target(photos: list[Path], output: Path, screen: Console) -> Path | None:
    """Return `output` if it names the cutout itself, None if a folder; refuse what it cannot be."""
    if output.is_dir():
        return None
    if output.exists():
        why = f"{output} is there already, and nothing is overwritten"
    elif output.suffix.lower() not in PICTURE_SUFFIXES:
        return None
    elif len(photos) > 1:
        why = f"{output} is one name for {len(photos)} photographs: name a folder"
    elif output.suffix.lower() not in FORMATS:
        why = f"{output}: a cutout is transparent, which .png and .webp can be"
    else:
        return output
    say_failed(screen, why)
    raise typer.Exit(EXIT_NONE_TRIED)


def _make(folder: Path, screen: Console) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        say_failed(screen, f"{folder}: {_reason(exc)}")
        raise typer.Exit(EXIT_NONE_TRIED) from exc


def _way_to(model: str, exc: CoreError) -> str:
    """Say why the weights cannot run and what would help."""
    if isinstance(exc, WeightsNotInstalledError):
        return f"{model} is not installed: `{weights_command(model)}` does it"
    return f"{model}: {_reason(exc)}. See `cutout models list`."


def _reason(exc: Exception) -> str:
    """Say it in words: the exception's own, or what its class is for."""
    if isinstance(exc, IsADirectoryError):
        return f"{exc.strerror}; its photographs are {exc.filename}/*"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or (type(exc).__doc__ or type(exc).__name__).splitlines()[0].rstrip(".")
