"""Tables on the terminal: ids and names that the next command needs are never cut."""

from collections.abc import Collection
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

BOUNDLESS: Final = 10_000


def show_table(screen: Console, table: Table, *, folding: Collection[str] = ()) -> None:
    """Print a table whole: as wide as it is where it is piped, and on a terminal too narrow for it.

    Args:
        screen: where to.
        table: its columns get the width of their longest cell.
        folding: headers of columns that may fold into several lines, on a terminal.
    """
    unbounded = screen.options.update(width=BOUNDLESS)
    for column in table.columns:
        if column.header not in folding:
            cells = [column.header, *column.cells]
            column.min_width = max(
                Measurement.get(screen, unbounded, cell).maximum for cell in cells
            )
    needed = Measurement.get(screen, unbounded, table)
    is_bounded = screen.is_terminal
    room = max(screen.width, needed.minimum) if is_bounded else needed.maximum
    table.width = min(needed.maximum, room)
    screen.print(table, crop=False)
