"""The examples of the documentation, as the pages have them, for the tests that run them.

A block of Python says in the comment above it what becomes of it: `example: pytest ARGUMENTS`
passes, `fails: pytest ARGUMENTS` has a test that fails, `file: NAME` lies beside the next example.
Text under the comment `shown` is part of what the example above it prints, numbers apart. A block
without a comment is a program.
A line of a console that begins with a dollar, or for Windows with a pointed bracket, is a command;
it goes on after a backslash. So is what stands in backquotes within a text, with its arguments.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        ROOT / "changelog.d" / "README.md",
    ]
)
"""Every page that people read; fragments of the changelog are none."""

_PYTHON = re.compile(
    r"(?:<!-- (?P<what>\w+): (?P<words>[^\n]*) -->\n)?```python\n(?P<code>.*?)```"
    r"(?:\n\n<!-- shown -->\n```text\n(?P<shown>.*?)```)?",
    re.DOTALL,
)
_FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(
    r"`((?:linkmode [a-z]+ |pytest -|pytest tests|python -m (?:scripts|benchmarks)"
    r"|\./scripts/[^\s`]+ )[^`]*)`"
)
_ELLIPSIS = re.compile(r"\.\.\.|…")
_ANSWERED = re.compile(
    r"^```console\n(?P<typed>[^`]*)^```\n(?:(?!```).)*?"
    r"<!-- shown -->\n```text\n(?P<shown>.*?)^```",
    re.DOTALL | re.MULTILINE,
)

PASSES, FAILS, FILE, PROGRAM = "example", "fails", "file", "program"


@dataclass(frozen=True)
class Example:
    """One block of Python that is run: the arguments of pytest, and the files beside it."""

    page: str
    what: str
    arguments: tuple[str, ...]
    code: str
    files: Mapping[str, str]
    shown: str = ""

    @property
    def run(self) -> tuple[object, ...]:
        """What examples have in common that can be run at once."""
        return (self.what, self.arguments, tuple(self.files.items()))


def examples(page: Path) -> list[Example]:
    """Return the examples of a page. Raises ValueError for a block that nobody runs."""
    found: list[Example] = []
    files: dict[str, str] = {}
    name = page.relative_to(ROOT).as_posix()
    for block in _PYTHON.finditer(page.read_text(encoding="utf-8")):
        words = (block["words"] or "").split()
        if block["what"] is None:
            found.append(Example(name, PROGRAM, (), block["code"], {}))
            continue
        if block["what"] == FILE and len(words) == 1:
            files[words[0]] = block["code"]
        elif block["what"] in (PASSES, FAILS) and words[:1] == ["pytest"]:
            shown = block["shown"] or ""
            found.append(
                Example(name, block["what"], tuple(words[1:]), block["code"], files, shown)
            )
            files = {}
        else:
            raise ValueError(f"{name}: does not say how it is run:\n{block['code']}")
    if files:
        raise ValueError(f"{name}: no example uses {', '.join(files)}")
    return found


def runs() -> list[list[Example]]:
    """Return the examples of all pages, those together that can be run at once."""
    grouped: dict[tuple[object, ...], list[Example]] = {}
    for page in PAGES:
        for example in (each for each in examples(page) if each.what != PROGRAM):
            grouped.setdefault(example.run, []).append(example)
    return list(grouped.values())


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the text of each block in a language."""
    for found in _FENCED.finditer(page.read_text(encoding="utf-8")):
        if found["language"] == language:
            yield found["text"]


def typed(page: Path) -> list[str]:
    """Return each command of a page as it is typed, `&&` being two: of its consoles, of its text.

    What leaves something out (...) is about a command, and none.
    """
    found: list[str] = []
    for block in blocks(page, "console"):
        found += _lines(block)
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    found += [each for each in _INLINE.findall(text) if not _ELLIPSIS.search(each)]
    return [" ".join(each.split()) for each in found]


def _lines(console: str) -> Iterator[str]:
    for line in console.replace("\\\n", " ").splitlines():
        if line.startswith(("$ ", "> ")):
            yield from (
                " ".join(each.split()) for each in re.sub(r"\s+#.*", "", line[2:]).split(" && ")
            )


def answers() -> dict[str, str]:
    """Return what pages show of the output of a command, the last one of its console."""
    return {
        [*_lines(found["typed"])][-1]: found["shown"]
        for page in PAGES
        for found in _ANSWERED.finditer(page.read_text(encoding="utf-8"))
    }


def essence(text: str) -> str:
    """What is left of output without its numbers and its layout."""
    return " ".join(re.sub(r"\d+", "#", text.replace("\nE ", "\n")).split())


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of a page."""
    for command in typed(page):
        yield shlex.split(command)
