"""What a run verified, as people and programs want to read it.

`model` turns the merged ledger into one plain `Verdict`, and `document` that into plain data; the
writers beside them only print. A writer is a row of `WRITERS`, loaded when a report is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

WRITERS: Mapping[str, str] = {
    ".html": "pytest_linkmode.report.html",
    ".json": "pytest_linkmode.report.json",
}
"""Suffix of `--linkmode-report` -> the module whose ``text(document)`` is the file."""
