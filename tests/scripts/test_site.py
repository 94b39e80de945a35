"""The navigation of the documentation: every page once, none that is not there, none lost."""

from __future__ import annotations

import os
from pathlib import Path

from scripts import site
from scripts.bootstrap import ROOT

DOCS = os.path.join(ROOT, "docs")


def test_every_page_is_in_the_navigation_once() -> None:
    rows = [page for section in site.navigation(DOCS).values() for page in section]
    assert sorted(rows) == site.pages(DOCS)
    assert {"tutorial", "how-to/ci", "reference/options", "explanation"} <= {*rows}


def test_a_page_that_nobody_has_placed_is_shown_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    for name in ("README.md", "tutorial.md", "how-to/ci.md", "how-to/stray.md"):
        (tmp_path / name).write_text("# x\n")
    found = site.navigation(str(tmp_path))
    assert found == {"Tutorial": ["tutorial"], "How to": ["how-to/ci"], "More": ["how-to/stray"]}
    assert [*found][-1] == site.REST


def test_the_first_page_has_a_hidden_table_for_each_section(tmp_path: Path) -> None:
    (tmp_path / "tutorial.md").write_text("# x\n")
    assert site.trees(str(tmp_path)) == (
        "\n```{toctree}\n:hidden:\n:caption: Tutorial\n\ntutorial\n```\n"
    )
