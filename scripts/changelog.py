"""Checks the fragments of the changelog: what each is called, and that it is a sentence.

towncrier makes a section of CHANGELOG.md from them at a release, and says nothing of a fragment
whose type it does not know; `python -m scripts.changelog` does.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FRAGMENTS = os.path.join(ROOT, "changelog.d")
OTHERS = ("README.md", "template.md")
"""What else lies there."""


def types(path: str = os.path.join(ROOT, "pyproject.toml")) -> tuple[str, ...]:
    """Return the types of fragments that towncrier is configured for."""
    with open(path, "rb") as file:
        rows = tomllib.load(file)["tool"]["towncrier"]["type"]
    return tuple(row["directory"] for row in rows)


def objections(name: str, text: str, known: Sequence[str]) -> Iterable[str]:
    """Yield what is wrong with one fragment."""
    if not re.fullmatch(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(known)})\.md", name):
        yield f"must be called TOPIC.TYPE.md, TYPE one of {', '.join(known)}"
    if not text.strip():
        yield "is empty"
        return
    if re.match(r"\s*([-*+#>]|\d+\.)\s", text):
        yield "must be sentences: the bullet is put before them"
    if not text.rstrip().endswith((".", ".)")):
        yield "must end with a full stop"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield "must end with one newline"


def check(directory: str = FRAGMENTS) -> list[str]:
    """Return every objection to the fragments of `directory`, as lines to show."""
    known = types()
    found = []
    for name in sorted(set(os.listdir(directory)) - {*OTHERS}):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = file.read()
        found += [f"changelog.d/{name} {objection}" for objection in objections(name, text, known)]
    return found


def main() -> int:
    """Print the objections; return 1 if there are any."""
    found = check()
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
