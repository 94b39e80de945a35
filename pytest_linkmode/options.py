"""The options and ini keys, as a table.

From `OPTIONS` the parser, the ini keys, the header line and the reference documentation are
made. What a value means is the business of `config`, which a run without any of them never
loads: that is why shapes are words here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import argparse

    import pytest

WRITERS: Mapping[str, str] = {
    ".html": "pytest_linkmode.report.html",
    ".json": "pytest_linkmode.report.json",
}
"""Suffix of `--linkmode-report` -> the module whose ``text(document)`` is the file."""

COMMAND_LINE = "command line"
INI_FILE = "ini file"

Shape = Literal["args", "linelist", "string", "bool"]
"""How a value is written: pytest's types of ini keys."""

WORDS: Shape = "args"
"""Words between commas or blanks; giving the option again adds to it."""
LINES: Shape = "linelist"
"""Entries that may hold commas: the option again, or one a line."""
TEXT: Shape = "string"
FLAG: Shape = "bool"


class Option:
    """One row of the table: ``--linkmode-NAME`` and ``linkmode_NAME``.

    `shape` says how its value is written, and is its type as an ini key; `flag` is how it is
    typed, `key` is its ini key, and its name among pytest's options.
    """

    __slots__ = ("flag", "help", "key", "metavar", "name", "shape")

    def __init__(self, name: str, shape: Shape, metavar: str, help: str) -> None:  # noqa: A002  # as argparse calls it
        self.name, self.shape, self.metavar, self.help = name, shape, metavar, help
        self.flag = f"--linkmode-{name}"
        self.key = "linkmode_" + name.replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option(
        "fs",
        WORDS,
        "NAMES",
        "filesystems to test on, as in btrfs,xfs: each by itself, in its special layouts, and with "
        "one cross-device partner both ways. One that cannot be had is a usage error; 'btrfs?' "
        "means if it can be had; 'auto' (default) is what this machine has or can make, the rest "
        "is skipped; 'all' is every one.",
    ),
    Option(
        "layout",
        WORDS,
        "NAMES",
        "exactly these layouts, as in btrfs,btrfs:tmpfs,xfs+bind; 'pairs' is every ordered pair of "
        "the selected filesystems, 'special' every special layout of each.",
    ),
    Option("tmp", TEXT, "NAME", "put tmp_path of every test on this filesystem."),
    Option(
        "dir",
        LINES,
        "NAME=PATH",
        "use a directory that exists as filesystem NAME, once probing has shown that it is one "
        "(also LINKMODE_DIR_NAME in the environment). May be given again.",
    ),
    Option("provider", TEXT, "NAME", "get filesystems in this way only."),
    Option(
        "namespace",
        TEXT,
        "{auto,private,host}",
        "where mounts live: in a private mount namespace that no kill can leak from, or in the "
        "host's. 'auto' (default) is private where the kernel allows it.",
    ),
    Option(
        "linker",
        TEXT,
        "LINKER",
        "the linker that linkmode_linker and the conformance suite drive: module:callable, or a "
        "command line with {mode} {source} {target}. Default: the reference linker.",
    ),
    Option(
        "policy",
        TEXT,
        "NAME|MODULE:OBJ",
        "the fallback graph that expectations and coverage speak of. Default: reference.",
    ),
    Option(
        "require",
        WORDS,
        "CAPABILITIES",
        "fail the run if no test was executed on each of these, as in reflink,cross-device.",
    ),
    Option(
        "fail-under",
        TEXT,
        "N",
        "fail the run if fewer than N %% of the policy's edges were verified.",
    ),
    Option(
        "fault",
        LINES,
        "SPEC",
        "replay one failing case of a sweep, as in clone:EOPNOTSUPP:path=*/numpy/__init__.py. May "
        "be given again.",
    ),
    Option(
        "schedule",
        TEXT,
        "SCHEDULE",
        "run one schedule instead of exploring all, as a failure printed it: A12-B3-A.",
    ),
    Option(
        "budget",
        TEXT,
        "N",
        "run at most N cases of each sweep, evenly sampled, and N schedules of each exploration, "
        "those with few preemptions first; what was not run is printed.",
    ),
    Option(
        "report",
        LINES,
        "PATH",
        f"write a report of what was verified ({', '.join(WRITERS)}). May be given again.",
    ),
    Option(
        "keep",
        FLAG,
        "",
        "keep the filesystems after the run (needs the host namespace); says where they are and "
        "how to remove them.",
    ),
    Option("image-dir", TEXT, "DIR", "where the sparse images of filesystems are kept."),
    Option("image-size", TEXT, "SIZE", "their size, as in 512M or 4G. Default: 2G."),
)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


def add_options(parser: pytest.Parser) -> None:
    """Register every row of the table, as an option and as an ini key."""
    group = parser.getgroup("linkmode", "link modes: clone, hardlink, symlink, copy")
    for option in OPTIONS:
        if option.shape is FLAG:
            group.addoption(
                option.flag, dest=option.key, action="store_true", default=None, help=option.help
            )
        else:
            several = option.shape in (WORDS, LINES)
            group.addoption(
                option.flag,
                dest=option.key,
                action="append" if several else "store",
                default=None,
                metavar=option.metavar,
                help=option.help,
            )
        parser.addini(
            option.key,
            option.help.replace("%%", "%"),
            type=option.shape,
            default=None,
        )


def given(config: pytest.Config, options: object) -> dict[str, tuple[Any, str]]:
    """Return the value and the origin of every option that was given, by name.

    `options` holds the parsed command line (``config.option``, or what is known of it before
    conftests are loaded); it wins over the ini file. An empty value was given too; that it says
    nothing is for `config` to find.
    """
    found: dict[str, tuple[Any, str]] = {}
    for option in OPTIONS:
        value, origin = getattr(options, option.key, None), COMMAND_LINE
        if value is None:
            value, origin = config.getini(option.key), INI_FILE
        if value is not None and value is not False:
            found[option.name] = value, origin
    return found


def only_shows(options: argparse.Namespace) -> bool:
    """Whether a run prints something about pytest and tests nothing."""
    shows = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
    return any(getattr(options, name, False) for name in shows)
