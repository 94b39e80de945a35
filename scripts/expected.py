"""Guards the committed list of what must be verified: it shrinks only with a line in the changelog.

The jobs of a matrix are held against expected.txt by `linkmode merge --expect`. Whoever takes an
edge or a cell off that list, or weakens a proof, names it in a fragment of the changelog (or in
CHANGELOG.md), where people who rely on it will read it. `BASE` is the revision to compare with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
    sys.path.append(ROOT)  # this runs before the project is installed

from pytest_linkmode.coverage import PROOFS  # noqa: E402
from pytest_linkmode.report.expected import Expected, parse  # noqa: E402

LIST = "scripts/expected.txt"
CHANGELOG = "CHANGELOG.md"
FRAGMENTS = "changelog.d"


def lost(before: Expected, after: Expected) -> Iterator[tuple[str, ...]]:
    """Yield what is expected no more, or less: the words of which one must be in the changelog."""
    for edge, proof in before.edges.items():
        now = after.edges.get(edge)
        if now is None or PROOFS.index(now) > PROOFS.index(proof):
            yield (edge,)
    for platform, layout, mode in sorted(before.cells - after.cells):
        yield (f"{platform} {layout} {mode}", f"{platform} {layout}")


def unsaid(before: Expected, after: Expected, said: str) -> list[str]:
    """Return what is lost without a word in backticks in `said`."""
    named = set(re.findall(r"`([^`]+)`", said))
    return [words[0] for words in lost(before, after) if named.isdisjoint(words)]


def shown(root: str, revision: str, path: str) -> str:
    """Return a file of a revision, or nothing if it, or the revision, is not there."""
    found = subprocess.run(
        ["git", "show", f"{revision}:{path}"],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return found.stdout if found.returncode == 0 else ""


def there(root: str, path: str) -> str:
    """Return a file of the working tree, or nothing if it is not there."""
    where = os.path.join(root, path)
    if not os.path.exists(where):
        return ""
    with open(where, encoding="utf-8") as file:
        return file.read()


def said_since(root: str, revision: str) -> str:
    """Return what the changelog, and its fragments, say that they did not say at `revision`."""
    old = set(shown(root, revision, CHANGELOG).splitlines())
    lines = [line for line in there(root, CHANGELOG).splitlines() if line not in old]
    directory = os.path.join(root, FRAGMENTS)
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        path = f"{FRAGMENTS}/{name}"
        if name.endswith(".changed.md") and there(root, path) != shown(root, revision, path):
            lines.append(there(root, path))
    return "\n".join(lines)


def main(root: str = ROOT) -> int:
    """Compare with `BASE`, or with the revision before this one; return the exit status."""
    revision = (os.environ.get("BASE", "").strip("0") and os.environ["BASE"]) or "HEAD^"
    before = parse(shown(root, revision, LIST), f"{LIST} of {revision}")
    after = parse(there(root, LIST), LIST)
    missing = unsaid(before, after, said_since(root, revision))
    for name in missing:
        print(
            f"{LIST} expects less of `{name}` than {revision}: say so, in backticks, in "
            f"{FRAGMENTS}/TOPIC.changed.md",
            file=sys.stderr,
        )
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
