"""The page of layouts is what the tables say, and says something of every row."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_linkmode import kernel
from pytest_linkmode.special import KINDS
from scripts import layout_docs

PAGE = Path(layout_docs.PAGE)


def static(page: str) -> str:
    """Return what does not depend on the machine."""
    return page.partition("## Where every mode ends")[0]


def test_the_page_is_what_the_tables_say() -> None:
    said = "run: python -m scripts.layout_docs"
    assert static(PAGE.read_text()) == static(layout_docs.page([])), said


@pytest.mark.skipif(not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN")
def test_what_every_mode_ends_in_is_what_is_found_here() -> None:
    page = PAGE.read_text()
    rows = layout_docs.outcomes(page)
    assert layout_docs.page(rows) == page, "run: python -m scripts.layout_docs"


def test_every_layout_has_a_row_and_every_kind_a_chapter() -> None:
    page = PAGE.read_text()
    for kind in KINDS:
        assert f"### `+{kind}`" in page
    for spec in layout_docs.layouts():
        if "disk" not in (spec.source, spec.target):
            assert f"| `{spec.name}` |" in page
