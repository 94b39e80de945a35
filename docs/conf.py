"""What Sphinx is told: sphinx-build -W docs site. The navigation is a table in scripts/site.py."""

from __future__ import annotations

import os
import shutil
import sys

DOCS = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(DOCS))

from sphinx.application import Sphinx  # noqa: E402

from scripts.site import ROOT_PAGE, drawn, trees  # noqa: E402

project = "pytest-linkmode"
extensions = ["myst_parser"]
root_doc = ROOT_PAGE
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 4


def _complete(_app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = drawn(source[0])
    if docname == root_doc:
        source[0] += trees(DOCS)


def _give_the_first_page_its_usual_name(app: Sphinx, failed: Exception | None) -> None:
    if failed is None and app.builder.format == "html":
        shutil.copy(
            os.path.join(app.outdir, f"{ROOT_PAGE}.html"), os.path.join(app.outdir, "index.html")
        )


def setup(app: Sphinx) -> None:
    """Add the navigation to the first page, and pictures to all, while they are read."""
    app.connect("source-read", _complete)
    app.connect("build-finished", _give_the_first_page_its_usual_name)
