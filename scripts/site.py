"""What docs/conf.py gives to Sphinx: the navigation, and fallback graphs as pictures.

Who reads the pages where they lie sees graphs as Mermaid, which the readers of repositories draw.
In the site they are drawn when it is built, by what draws those of the report, so that nothing is
asked of a network when it is looked at: `python -m scripts.site DIRECTORY` holds a built site to
that.

`NAVIGATION` is the table of pages, by what a reader wants (Diátaxis): to learn, to get something
done, to look something up, to understand. A page that is in no row is shown at the end, so that
none is lost; a row whose page is not there is left out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from importlib.resources import files

from linker.policies import ALL
from linker.policy import Policy, State
from pytest_linkmode import graphs
from pytest_linkmode.report import drawing
from pytest_linkmode.report.markup import tag

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


# --- graphs --------------------------------------------------------------------------------------

COLOURS = """
.graph { columns: auto; }
.graph figure { max-width: 38rem; }
.graph { --ink: var(--color-foreground-primary); --dim: var(--color-foreground-muted);
  --card: var(--color-background-primary); --soft: var(--color-background-secondary);
  --line: var(--color-foreground-border); --c: var(--color-brand-primary); }
"""
"""What `graph.css` needs to know of the theme."""

_HEADING = re.compile(r"### (\S+) on (\S+)$")
_FENCE, _END = "```mermaid", "```"
_WIDTH = 15
"""Letters of a line of conditions, so that they stay in their box with one word more."""


def drawn(page: str) -> str:
    """Return a page of Markdown with its graphs as pictures.

    A graph is that of the policy and platform that the heading above it names.
    """
    lines: list[str] = []
    graph = ""
    inside = False
    for line in page.splitlines():
        if found := _HEADING.match(line):
            graph = picture(ALL[found[1]], found[2])
        if line == _FENCE:
            if not graph:
                raise ValueError("a graph stands below no heading that says which it is")
            if not any(each.startswith("<style>") for each in lines):
                lines += [_style(), ""]
            lines.append(graph)
            graph, inside = "", True
        elif not inside:
            lines.append(line)
        elif line == _END:
            inside = False
    return "\n".join(lines) + "\n"


def _style() -> str:
    looks = files("pytest_linkmode.report").joinpath("graph.css").read_text(encoding="utf-8")
    return f"<style>\n{looks}{COLOURS.lstrip()}</style>"


def picture(policy: Policy, platform: str) -> str:
    """Return the graph of a policy on one platform, as one line of HTML."""
    return tag("div", drawing.graph([*_arrows(policy, platform)]), class_="graph")


def _arrows(policy: Policy, platform: str) -> Iterator[drawing.Arrow]:
    for row in graphs.rows(policy, platform):
        lines = graphs.folded(row.words, _WIDTH)
        if row.state is not State.ANY:
            lines = [f"{row.state}:", *lines]
        then = ", then ".join(map(str, row.steps))
        if row.memory is not None:
            then += f"\nfor that {row.memory}"
        yield drawing.Arrow(
            str(row.mode or graphs.ANY_MODE),
            row.primitive,
            "\n".join(lines),
            then,
        )


# --- what a site loads ---------------------------------------------------------------------------


class _Loads(HTMLParser):
    """Notes whatever a browser would fetch from elsewhere to show a page."""

    ATTRIBUTES: Mapping[str, str] = {
        "script": "src",
        "link": "href",
        "img": "src",
        "iframe": "src",
        "source": "src",
        "video": "src",
        "audio": "src",
        "object": "data",
        "embed": "src",
    }
    LINKS_ONLY = frozenset({"canonical", "next", "prev", "author", "license", "index", "search"})
    """Links that name another page, and load nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._code = False

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self._code = name in ("script", "style")
        self._look(given.get("style", ""))
        if name == "link" and self.LINKS_ONLY.issuperset(given.get("rel", "").split()):
            return
        address = given.get(self.ATTRIBUTES.get(name, ""), "")
        if _FOREIGN.match(address):
            self.found.append(address)

    def handle_endtag(self, name: str) -> None:
        self._code = self._code and name not in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._code:
            self._look(data)

    def _look(self, code: str) -> None:
        self.found += _loaded_by(code)


_FOREIGN = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_LOADING = re.compile(
    r"""(?:@import\s+(?:url\()?|url\(|\bimport\s*\(?|\bfrom)\s*["']?((?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE,
)


def _loaded_by(code: str) -> list[str]:
    """Return what style sheets and modules of scripts load from elsewhere."""
    return _LOADING.findall(code)


def loads(directory: str) -> list[str]:
    """Return a line for everything that a built site would load from a network."""
    said = []
    for where, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.endswith((".html", ".css", ".js")):
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                if name.endswith(".html"):
                    parser = _Loads()
                    parser.feed(text)
                    found = parser.found
                else:
                    found = _loaded_by(text)
                said += [f"{os.path.relpath(path, directory)}: {each}" for each in found]
    return said


def main(arguments: Sequence[str]) -> int:
    """Hold a built site to asking nothing of a network; return the exit status."""
    if len(arguments) != 1 or not os.path.exists(os.path.join(arguments[0], "index.html")):
        print("usage: python -m scripts.site DIRECTORY, that of a built site", file=sys.stderr)
        return 2
    found = loads(arguments[0])
    for line in found:
        print(f"loaded from a network: {line}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
