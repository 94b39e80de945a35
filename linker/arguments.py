"""The arguments of linking as a table, and two who read it: argparse, and a reader of plain words.

`argparse` takes as long to be imported and set up as a thousand files to be linked. So a command
line that says nothing unusual is read without it, and everything else (abbreviated, joined by an
equals sign, wrong, or a question for help) by it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from linker.light import TYPE_CHECKING
from linker.modes import Existing, LinkMode
from linker.policies import ALIASES, ALL

if TYPE_CHECKING:
    import argparse
    from typing import Any

MOST = 2
"""How many processes are worth it: more wait for each other in the filesystem."""


def _processes(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise ValueError(f"{text!r} is no number of processes")
    return number


LINK: Mapping[str, dict[str, Any]] = {
    "source": {"metavar": "SOURCE", "help": "a directory; with --store, a manifest"},
    "target": {"metavar": "TARGET", "help": "a directory, made if it is missing"},
    "--mode": {
        "type": LinkMode.parse,
        "metavar": "MODE",
        "help": "clone (or reflink), hardlink, symlink, copy; default: the policy's",
    },
    "--policy": {
        "choices": sorted([*ALL, *ALIASES]),
        "metavar": "POLICY",
        "default": "reference",
        "help": f"whose fallbacks to follow: {', '.join([*ALL, *ALIASES])}; default: reference",
    },
    "--existing": {
        "choices": [each.value for each in Existing],
        "default": Existing.MERGE.value,
        "help": "merge into what the target has, replacing files (default), or fail",
    },
    "--mutable": {
        "action": "append",
        "default": [],
        "metavar": "GLOB",
        "help": "files that are always copied: names, or with a slash paths; may be repeated",
    },
    "--strict": {"action": "store_true", "help": "fail instead of falling back"},
    "--store": {"metavar": "STORE", "help": "the store that SOURCE is a manifest of"},
    "--no-verify": {
        "dest": "verify",
        "action": "store_false",
        "help": "with --store: do not read every file before it is linked",
    },
    "--processes": {
        "type": _processes,
        "metavar": "N",
        "help": f"how many work on a large tree; default: as many as may run, at most {MOST}",
    },
    "--json": {"action": "store_true", "help": "the report as JSON on stdout"},
    "--quiet": {"action": "store_true", "help": "tell of nothing but errors and fallbacks"},
    "--progress": {"action": "store_true", "help": "count files on stderr"},
}
"""Argument -> what argparse is told of it. Readers (``type``) refuse by ValueError."""

_FLAGS = {"store_true": True, "store_false": False}


def tell_parser(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of linking."""
    for name, how in LINK.items():
        reader = {"type": _telling(how["type"])} if "type" in how else {}
        parser.add_argument(name, **{**how, **reader})


def _telling(read: Any) -> Any:
    """Return a reader whose refusals argparse tells as they are."""
    from argparse import ArgumentTypeError

    def telling(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return telling


def read_plainly(words: Sequence[str]) -> SimpleNamespace | None:
    """Return what `tell_parser`'s parser would make of plain words; None for what it must read."""
    found: dict[str, Any] = {}
    places = [name for name in LINK if not name.startswith("-")]
    for name, how in LINK.items():
        if name not in places:
            default = not _FLAGS[how["action"]] if how.get("action") in _FLAGS else None
            found[_destination(name)] = how.get("default", default)
    coming = iter(words)
    for word in coming:
        if not word.startswith("-"):
            if not places:
                return None
            found[places.pop(0)] = word
            continue
        how = LINK.get(word, {})
        action = how.get("action")
        destination = _destination(word)
        if action in _FLAGS:
            found[destination] = _FLAGS[action]
            continue
        value: Any = next(coming, "-")
        if not how or value.startswith("-") or value not in how.get("choices", [value]):
            return None
        if "type" in how:
            try:
                value = how["type"](value)
            except ValueError:
                return None
        found[destination] = [*found[destination], value] if action == "append" else value
    return None if places else SimpleNamespace(**found)


def _destination(name: str) -> str:
    """Return the attribute in which the value of an option is found."""
    given = LINK.get(name, {}).get("dest")
    return given or name.lstrip("-").replace("-", "_")
