"""The verdict as JSON, with a version: for scripts, and to be merged with those of other machines.

Keys are added within a version, never renamed or given another meaning.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from pytest_linkmode.report.model import Line, Verdict

SCHEMA = "pytest-linkmode/1"


def document(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as values that JSON knows."""
    return {
        "schema": SCHEMA,
        "run": {
            "platform": verdict.platform,
            "release": " ".join(os.uname()[0:3:2]) if hasattr(os, "uname") else sys.platform,
            "python": ".".join(str(number) for number in sys.version_info[:3]),
            "options": list(verdict.typed),
            "place": verdict.place,
        },
        "ok": not verdict.failures,
        "failures": list(verdict.failures),
        "outcomes": _counts(verdict.outcomes),
        "layouts": {
            layout: {
                "modes": {mode or "any": _counts(cell) for mode, cell in row.items()},
                "skipped": dict(verdict.skipped.get(layout, {})),
            }
            for layout, row in verdict.cells.items()
        },
        "policy": {
            "name": verdict.policy,
            "verified": verdict.verified,
            "edges": [_line(line) for line in verdict.lines],
            "unknown_edges": [_line(line) for line in verdict.unknown],
        },
        "deselected": dict(verdict.deselected),
        "unavailable": dict(verdict.unavailable),
        "notes": list(verdict.notes),
    }


def write(verdict: Verdict, path: str) -> None:
    """Write the verdict to `path`, in one piece, its directory made if need be. Raises OSError."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(document(verdict), file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(unfinished, path)
    except OSError:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise


def _counts(counts: Any) -> dict[str, int]:
    return {str(outcome): number for outcome, number in sorted(counts.items())}


def _line(line: Line) -> dict[str, Any]:
    return {"edge": line.edge, "then": line.then, "proofs": line.proofs}
