"""Writes docs/layouts.md from the table of layouts, and what every mode ends in by doing it.

    python -m scripts.layout_docs          writes the page (as root: every layout is made)
    python -m scripts.layout_docs --check  ends with 1 if the page is not what would be written

What cannot be made here is taken over from the page as it is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing

from linker.modes import LinkMode
from linker.policies import REFERENCE
from pytest_linkmode.capabilities import Capabilities
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, kind_of, of_system
from pytest_linkmode.layouts import LayoutSpec, Workshop, select, specials
from pytest_linkmode.namespaces import find_place
from pytest_linkmode.special import CROSS, KINDS, NEEDS, SAME, Special

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs/layouts.md")

HEAD = """# Layouts

Generated from the tables by `python -m scripts.layout_docs`; a test fails where it is stale.

A layout is where a *source* (a cache) and a *target* (an environment) lie: `SRC[:DST][+KIND]`. The
name of a filesystem (`--linkmode-fs=btrfs`) stands for itself, its special layouts, and a
cross-device partner in both directions. `--linkmode-layout=special` is every special layout of the
selected filesystems, and nothing else.

A test needs to know nothing of a *plain* layout: all files end alike, and nothing fails. Others are
given to tests that say that they know of them: `@pytest.mark.linkmode(special=True)`, or by name in
`layout=[...]`. The conformance suite knows them all. In such a layout a test

- calls `linkmode_layout.seal()` when it has filled the source, which then becomes what the layout
  says: read-only, a snapshot, an image layer, ... (`seal(region="package")` names the directory
  that is special, where one is);
- calls its linker inside `with linkmode_layout.acting():`, which sets the user and the umask;
- asks `linkmode_layout.expected_tree(mode)` where each file must end (`assert_linked` takes that),
  and `linkmode_layout.failure(mode)` for the condition with which linking must fail, or None;
- hands `linkmode_layout.existed` and `.strangers` to `assert_linked` as `existed=` and `ignore=`:
  what the layout itself put into the target.

Every premise is proven before a test sees the layout, with files of at least 64 KiB; one that does
not hold on a filesystem of our own making is an error of ours, not a skip.
"""


def page(outcomes: list[str]) -> str:
    """Return the whole page."""
    parts = [HEAD, "## Filesystems\n", *_filesystems(), "\n## Kinds\n", *_kinds()]
    parts += [
        "\n## Where every mode ends\n",
        f"By the policy `{REFERENCE.name}`, computed from what was probed (Linux 6.18). After the\n"
        "slash: in the directory that is special. A word with an exclamation mark is the\n"
        "condition with which linking must fail.\n",
        "| layout | " + " | ".join(mode.value for mode in LinkMode) + " |",
        "|---|" + "---|" * len(LinkMode),
        *outcomes,
    ]
    return "\n".join(parts) + "\n"


def _filesystems() -> Iterator[str]:
    yield "| filesystem | what it is | has | has not | got by |"
    yield "|---|---|---|---|---|"
    for kind in FILESYSTEMS.values():
        ways = ", ".join(word if isinstance(word, str) else word.name for word in kind.providers)
        has, lacks = (", ".join(sorted(names)) or "-" for names in (kind.claims, kind.lacks))
        yield f"| `{kind.name}` | {kind.summary} | {has} | {lacks} | {ways} |"


def _kinds() -> Iterator[str]:
    for name, row in {"SRC": SAME, "SRC:DST": CROSS, **KINDS}.items():
        yield f"### `{'+' if row.name else ''}{name}`\n"
        yield _sentence(row.purpose)
        yield ""
        yield f"- proven: {_proof(row)}"
        needs = [NEEDS[word] for word in sorted(row.needs)]
        needs += sorted({f"`{tool}`" for tools in row.tools.values() for tool in tools})
        yield f"- needs: {', '.join(needs) or 'nothing but its filesystems'}"
        if row.name:
            made = "all" if row.filesystems is None else ", ".join(_ordered(row.filesystems))
            yield f"- can be made on: {made}"
            yield f"- selected by the name of: {', '.join(filter(row.at_home, FILESYSTEMS))}"
        words = ["plain" if row.plain else "for tests that know of it"]
        words += ["one directory is special"] if row.region else []
        words += ["linking must fail, in some mode at least"] if row.refuses else []
        yield f"- {'; '.join(words)}\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _proof(row: Special) -> str:
    start, _, said = " ".join((row.prove.__doc__ or "").split()).partition("Prove that ")
    assert said, f"{row.name} does not say how it is proven: {start}"
    return said


def _ordered(names: frozenset[str]) -> Iterator[str]:
    return (name for name in FILESYSTEMS if name in names)


def layouts() -> tuple[LayoutSpec, ...]:
    """Return every layout that the page shows: those for which the name of a filesystem stands that
    Linux can make.
    """
    kinds = (kind for kind in FILESYSTEMS.values() if of_system(kind, "linux"))
    names = [kind.name for kind in kinds if not kind.machine]
    return (*select(names), *specials(names))


def outcomes(before: str) -> list[str]:
    """Return a row for each layout, from the page as it was where it cannot be made here."""
    known = {
        found[1]: found[0] for found in re.finditer(r"^\| `([^`]+)` \| [^|]+\|.*$", before, re.M)
    }
    rows: list[str] = []
    with closing(Workshop(find_place(), Settings())) as workshop:
        for spec in sorted(layouts(), key=_order):
            if "disk" in (spec.source, spec.target):
                continue  # another on every machine
            try:
                placed = workshop.place(spec)
            except Unavailable:
                rows += [known[spec.name]] if spec.name in known else []
                continue
            words = [_ends(placed.can, mode, spec.row) for mode in LinkMode]
            if placed.inside is not None:
                inner = [_ends(placed.inside, mode, spec.row) for mode in LinkMode]
                words = [
                    word if word == other else f"{word} / {other}"
                    for word, other in zip(words, inner, strict=True)
                ]
            rows.append(f"| `{spec.name}` | " + " | ".join(words) + " |")
    return rows


def _order(spec: LayoutSpec) -> tuple[int, int]:
    names = list(FILESYSTEMS)
    first = spec.target if spec.source == kind_of(spec.target).partner else spec.source
    return names.index(first), list(KINDS).index(spec.kind) + 1 if spec.kind else 0


def _ends(can: Capabilities, mode: LinkMode, row: Special) -> str:
    failure = row.fails or can.failure(mode)
    return f"{failure}!" if failure is not None else can.expect(mode).value


def main() -> int:
    """Write the page, or check it; return the exit status."""
    before = ""
    if os.path.exists(PAGE):
        with open(PAGE, encoding="utf-8") as file:
            before = file.read()
    after = page(outcomes(before))
    if "--check" in sys.argv[1:]:
        if after != before:
            print(f"{PAGE} is stale: python -m scripts.layout_docs")
        return int(after != before)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
