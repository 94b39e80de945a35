"""What a release is made of: a tag that is the version, a changelog that has it, files that work.

python -m scripts.release check     $TAG is v and the version, CHANGELOG.md has its section
python -m scripts.release build     wheel and source distribution into $DIST; checked; tested
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Sequence

from scripts import ci
from scripts.building import wheel_in
from scripts.changelog import types

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def version(root: str = ROOT) -> str:
    """Return the version that pyproject.toml has."""
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def objections(tag: str, root: str = ROOT) -> list[str]:
    """Return what speaks against releasing this checkout under `tag`."""
    found = []
    wanted = version(root)
    if tag != f"v{wanted}":
        found.append(f"the tag {tag!r} is not v{wanted}, the version of pyproject.toml")
    with open(os.path.join(root, "CHANGELOG.md"), encoding="utf-8") as file:
        changelog = file.read()
    if not re.search(rf"^## \[{re.escape(wanted)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section of {wanted}: towncrier build --yes")
    endings = tuple(f".{kind}.md" for kind in types())
    names = sorted(os.listdir(os.path.join(root, "changelog.d")))
    left = [name for name in names if name.endswith(endings)]
    if left:
        found.append(f"changelog.d still has {', '.join(left)}: towncrier build --yes")
    return found


def check() -> int:
    """Say what speaks against a release; return the exit status."""
    found = objections(os.environ["TAG"])
    for objection in found:
        print(f"error: {objection}", file=sys.stderr)
    return int(bool(found))


def build() -> int:
    """Build into $DIST by the environment of tox that developers use, and test that very wheel."""
    out = os.path.abspath(os.environ["DIST"])
    shutil.rmtree(out, ignore_errors=True)
    tox = (sys.executable, "-m", "tox", "run", "-e")
    return (
        ci.run([*ci.PIP, *ci.requirements(("tox",))])
        or ci.run([*tox, "build"])
        or ci.run(ci.of_wheel("--installpkg", wheel_in(out)))
    )


def main(arguments: Sequence[str]) -> int:
    """Do one step; return the exit status."""
    match arguments:
        case ["check"]:
            return check()
        case ["build"]:
            return build()
        case _:
            print("usage: python -m scripts.release check|build", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
