"""Writing measured tables into docs/performance.md, between markers, the prose left alone."""

import datetime as dt
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_section(name: str, markdown: str) -> None:
    """Replace what stands between the markers of section `name`."""
    text = PAGE.read_text()
    start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise LookupError(f"{PAGE.name} has no section {name}")
    PAGE.write_text(pattern.sub(lambda _: f"{start}\n{markdown}\n{end}", text))


def stamp() -> str:
    """Say when and on what state of the code a table was made."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 whichever git the caller has
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return f"{today}, commit {commit or 'unknown'}"
