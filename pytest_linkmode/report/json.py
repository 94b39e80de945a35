"""The report as JSON, with a version: for scripts, and to be merged with those of other machines.

Keys are added within a version, never renamed or given another meaning; `schema.json` beside this
file is the JSON Schema.
"""

from __future__ import annotations

import json

from pytest_linkmode.report.document import Document


def text(document: Document) -> str:
    """Return the file, as it is written."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
