"""The navigation of the documentation, which docs/conf.py gives to Sphinx.

`NAVIGATION` is the table of pages, by what a reader wants (Diátaxis): to learn, to get something
done, to look something up, to understand. A page that is in no row is shown at the end, so that
none is lost; a row whose page is not there is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

NAVIGATION: Mapping[str, tuple[str, ...]] = {
    "Tutorial": ("tutorial",),
    "How to": (
        "privileges",
        "how-to/ci",
        "how-to/containers",
        "how-to/xdist",
        "how-to/own-filesystem",
        "how-to/own-linker",
        "faults",
        "interleave",
        "report",
    ),
    "Reference": (
        "reference/options",
        "reference/commands",
        "reference/fixtures",
        "report-schema",
        "layouts",
        "reference/policies",
        "reference/conditions",
        "installers",
        "macos",
        "windows",
        "uv-races",
        "benchmarks",
    ),
    "Explanation": (
        "explanation",
        "verified",
        "mutation",
    ),
}
"""Section -> its pages, without suffix, in the order in which they are shown."""
ROOT_PAGE = "README"
REST = "More"


def pages(directory: str) -> list[str]:
    """Return every page below a directory but the first, without its suffix."""
    found = (
        os.path.relpath(os.path.join(where, name), directory).replace(os.sep, "/")
        for where, _, names in os.walk(directory)
        for name in names
        if name.endswith(".md")
    )
    return sorted(name.removesuffix(".md") for name in found if name != f"{ROOT_PAGE}.md")


def navigation(directory: str) -> dict[str, list[str]]:
    """Return the sections with those pages that are there, and the rest of them at the end."""
    there = pages(directory)
    placed = {page for section in NAVIGATION.values() for page in section}
    sections = {
        **{title: [page for page in rows if page in there] for title, rows in NAVIGATION.items()},
        REST: [page for page in there if page not in placed],
    }
    return {title: rows for title, rows in sections.items() if rows}


def trees(directory: str) -> str:
    """Return the navigation as Sphinx reads it in a page of Markdown: hidden tables of contents."""
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(rows) + "\n```\n"
        for title, rows in navigation(directory).items()
    )
