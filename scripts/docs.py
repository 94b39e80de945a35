"""Write the parts of the documentation that are made from tables of the code.

`python -m scripts.docs` rewrites them; a test says so when they are out of date.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from pytest_linkmode.faults.ops import WAYS
from pytest_linkmode.faults.spec import EFFECTS, OPS
from pytest_linkmode.filesystems import FILESYSTEMS
from scripts import edges, reference
from scripts.bootstrap import ROOT


def filesystems() -> str:
    """Return the table of filesystems: what each is, what it must be able to do, and what not."""
    lines = ["| name | what it is | must be able to | must not be able to |", "|---|---|---|---|"]
    for kind in FILESYSTEMS.values():
        claims, lacks = (", ".join(sorted(names)) or "-" for names in (kind.claims, kind.lacks))
        lines.append(f"| `{kind.name}` | {kind.summary} | {claims} | {lacks} |")
    return "\n".join(lines)


def ops() -> str:
    """Return the table of ops: the system calls that do each, and whether they may do nothing."""
    lines = ["| op | system calls | can also have |", "|---|---|---|"]
    for op in OPS:
        calls: dict[str, list[str]] = {}
        for way in WAYS:
            if way.op == op:
                calls.setdefault(way.call, []).append(way.note)
        named = ", ".join(
            f"`{call}`"
            + (f" ({', '.join(note or 'O_CREAT' for note in notes)})" if any(notes) else "")
            for call, notes in calls.items()
        )
        effects = ", ".join(f"`{effect}`" for effect, able in EFFECTS.items() if op in able)
        lines.append(f"| `{op}` | {named} | {effects or '-'} |")
    return "\n".join(lines)


PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("docs/explanation.md", "filesystems"): filesystems,
    ("docs/faults.md", "ops"): ops,
    ("docs/verified.md", "edges"): edges.table,
    ("docs/explanation.md", "capabilities"): reference.capabilities,
    ("docs/report-schema.md", "schema"): reference.report_schema,
    ("docs/reference/options.md", "options"): reference.options,
    ("docs/reference/commands.md", "commands"): reference.commands,
    ("docs/reference/fixtures.md", "fixtures"): reference.fixtures,
    ("docs/reference/fixtures.md", "hook"): reference.hook,
    ("docs/reference/policies.md", "policies"): reference.policies,
    ("docs/reference/conditions.md", "conditions"): reference.conditions,
}
"""(page, name of the part) -> what makes it. A part lies between two comments with its name."""


def replaced(text: str, name: str, part: str) -> str:
    """Return `text` with the part of that name exchanged."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"no part between {begin} and {end}")
    return f"{before}{begin}\n{part}\n{end}{after}"


def write_part(path: str, name: str, part: str) -> None:
    """Exchange one part of a page."""
    with open(path, encoding="utf-8") as file:
        text = replaced(file.read(), name, part)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main() -> int:
    """Rewrite every part; return the exit status."""
    for (page, name), make in PARTS.items():
        write_part(os.path.join(ROOT, page), name, make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
