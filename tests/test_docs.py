"""The documentation keeps up with the code: every refusal, endpoint, option, header and link."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.admission import Admission
from gateway.dialects.codia import CODES
from gateway.dialects.forms import OptionsForm
from gateway.dialects.openapi import document
from gateway.errors import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, PROBLEMS
from gateway.health import Metrics
from gateway.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ADR_WORDS_MAX = 300
ADR_HEADINGS = ["Context", "Decision", "Consequences", "Alternatives", "Enforced by"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dialects_page() -> str:
    return (DOCS / "dialects.md").read_text()


def anchors_in(page: Path) -> set[str]:
    """Name a page's headings as their links do."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = unquote(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors_in(found), target


def test_every_refusal_has_its_row_with_its_status_and_its_number() -> None:
    rows = {
        cells[3].strip("` "): (cells[1], cells[2].strip())
        for line in dialects_page().splitlines()
        if line.startswith("|") and len(cells := line.split("|")) > 6
    }
    for problem in (*PROBLEMS.values(), NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL):
        statuses, number = rows[problem.code]
        assert str(problem.status) in statuses, problem.code
        assert number == str(CODES[problem.code])


def test_every_endpoint_has_its_heading() -> None:
    page = dialects_page()
    for path, methods in document("https://cutout.test")["paths"].items():
        for method in methods:
            assert f"\n## {method.upper()} {path}\n" in page


def test_every_option_has_its_row() -> None:
    assert not [
        name for name in OptionsForm.__struct_fields__ if f"| `{name}` |" not in dialects_page()
    ]


def test_every_header_that_is_answered_is_told_of() -> None:
    page = dialects_page()
    for header in document("https://cutout.test")["components"]["headers"]:
        assert f"`{header}" in page, header


def test_every_metric_has_its_row(make_settings: Callable[..., Settings]) -> None:
    page = (DOCS / "operations.md").read_text()
    metrics = Metrics(Admission(make_settings()))
    names = [
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    ]
    assert names
    assert not [name for name in names if f"| `{name}` |" not in page]


def test_every_event_of_the_log_is_told_of() -> None:
    page = (DOCS / "operations.md").read_text()
    code = "".join(path.read_text() for path in sorted((ROOT / "gateway").rglob("*.py")))
    events = set(re.findall(r"\blog\.\w+\(\s*\"([a-z_]+\.[a-z_]+)\"", code))
    assert len(events) > 1
    assert not [event for event in sorted(events) if f"`{event}`" not in page]


def test_every_package_of_the_lock_is_on_the_page_of_licences() -> None:
    page = (DOCS / "licences.md").read_text().lower()
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name.lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert len(locked) > 50
    named = set(re.findall(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", page))
    assert not locked - named


def test_no_package_is_called_the_products_that_is_not_in_the_lock() -> None:
    page = (DOCS / "licences.md").read_text()
    table = page[page.index("## Packages that") :].split("\n\n")[1]
    lock = (ROOT / "requirements.lock").read_text()
    for row in table.splitlines()[2:]:
        packages = re.sub(r"\([^)]*\)|and of theirs:", "", row.split("|")[2])
        for name in packages.replace(" ", "").strip(",").split(","):
            assert not name or f"\n{name}==" in f"\n{lock}", name


@pytest.mark.parametrize("record", sorted((DOCS / "adr").glob("*.md")), ids=name_of)
def test_a_decision_is_short_and_says_what_enforces_it(record: Path) -> None:
    text = record.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ADR_HEADINGS
    assert len(text.split()) <= ADR_WORDS_MAX
    assert text.startswith(f"# {int(record.name[:4])}. ")


@pytest.mark.parametrize("record", sorted((DOCS / "adr").glob("*.md")), ids=name_of)
def test_what_is_said_to_enforce_a_decision_exists(record: Path) -> None:
    for path in re.findall(
        r"`((?:tests|gateway|core|billing|docs|bench)/[\w/.-]+)", record.read_text()
    ):
        assert (ROOT / path).exists(), path
