"""What Sphinx is told: sphinx-build -W docs site. The navigation is a table in scripts/site.py."""

from __future__ import annotations

import os
import sys

DOCS = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(DOCS))

from sphinx.application import Sphinx  # noqa: E402

from scripts.site import ROOT_PAGE, trees  # noqa: E402

project = "pytest-linkmode"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
root_doc = ROOT_PAGE
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]


def _add_navigation(_app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == root_doc:
        source[0] += trees(DOCS)


def setup(app: Sphinx) -> None:
    """Add the navigation to the first page while it is read."""
    app.connect("source-read", _add_navigation)
