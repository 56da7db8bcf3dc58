"""The golden documents are the contracts' own, to the letter, where those are at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"


def documents_in(text: str) -> list[Any]:
    """Find every JSON object that a text prints."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at += 1
        else:
            found.append(document)
    return found


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_document_is_printed_in_its_contract(path: Path, shared_dir: Path) -> None:
    printed = [
        document
        for seed in (shared_dir / "seeds").glob("*.txt")
        for document in documents_in(seed.read_text())
    ]
    assert json.loads(path.read_text()) in printed


def test_every_answer_that_the_contracts_print_is_golden(shared_dir: Path) -> None:
    kept = [json.loads(path.read_text()) for path in GOLDEN.glob("*.json")]
    for seed in (shared_dir / "seeds").glob("*.txt"):
        answers = [one for one in documents_in(seed.read_text()) if set(one) != {"image_url"}]
        assert all(answer in kept for answer in answers)
