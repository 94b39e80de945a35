"""Every setting, read once into one frozen dataclass.

An option of the command line, the ini key of the same name and a few environment variables all
end here, as one `Settings`; nothing else reads them. A run that gives none of them (see
`options`) does not come here at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from linker.modes import LinkMode
from pytest_linkmode.options import BY_NAME, COMMAND_LINE, FLAG, INI_FILE, OPTIONS, WRITERS, given

if TYPE_CHECKING:
    import pytest

DIRECTORY_VARIABLE = "LINKMODE_DIR_"
"""``LINKMODE_DIR_BTRFS=/mnt/b`` says the same as ``--linkmode-dir=btrfs=/mnt/b``."""

AUTO = "auto"
ALL = "all"
PAIRS = "pairs"
SPECIAL = "special"
GROUPS = (PAIRS, SPECIAL)
"""Words that stand for many layouts of the selected filesystems."""

ENVIRONMENT = "environment"
"""Where a setting was made, beside the command line and the ini file."""

REPLAYED = ("tmp", "dir", "provider", "namespace", "linker", "policy", "image-size")
"""The options that decide what a test of some layout does, beside the layout."""

NAMESPACES = ("auto", "private", "host")


@dataclass(frozen=True)
class Request:
    """One filesystem that was asked for by name; `optional` if only where it can be had."""

    name: str
    optional: bool = False

    def __str__(self) -> str:
        return self.name + ("?" if self.optional else "")


@dataclass(frozen=True)
class Settings:
    """What was asked for. All defaults together mean: nothing was.

    `fs` are the filesystems named one by one; `auto` and `every` stand for the words ``auto``
    and ``all``. `layouts` is None where none were named. `origins` maps the name of each option
    that was given to the place where it was.
    """

    fs: tuple[Request, ...] = ()
    auto: bool = True
    every: bool = False
    layouts: tuple[str, ...] | None = None
    tmp: str | None = None
    dirs: Mapping[str, str] = field(default_factory=dict)
    provider: str | None = None
    namespace: str = "auto"
    linker: str | None = None
    policy: str = "reference"
    require: tuple[str, ...] = ()
    fail_under: float | None = None
    fault: tuple[str, ...] = ()
    schedule: str | None = None
    budget: int | None = None
    report: tuple[str, ...] = ()
    keep: bool = False
    image_dir: str | None = None
    image_size: int = 2 << 30
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def asks_for_filesystems(self) -> bool:
        """Whether filesystems or layouts were asked for, so that running none is a failure."""
        return self.is_asking("fs", "layout")

    def is_asking(self, *names: str) -> bool:
        """Whether one of the options called `names` was given anywhere."""
        return not self.origins.keys().isdisjoint(names)

    @property
    def is_asked(self) -> bool:
        """Whether anything was asked for of this run; the environment speaks of the machine."""
        return any(origin != ENVIRONMENT for origin in self.origins.values())

    def is_typed(self, *names: str) -> bool:
        """Whether one of the options called `names` was given on the command line."""
        return any(self.origins.get(name) == COMMAND_LINE for name in names)

    def typed(self, *names: str) -> tuple[str, ...]:
        """Return the options that were given, wherever they were, as one would type them.

        Only those called `names`, if any are.
        """
        values: Mapping[str, Iterable[str]] = {
            "fs": [",".join(self._fs_words())],
            "layout": [",".join(self.layouts or ())],
            "dir": [f"{name}={path}" for name, path in self.dirs.items()],
            "require": [",".join(self.require)],
            "fault": self.fault,
            "report": self.report,
            "image-size": [f"{self.image_size >> 20}M"],
        }
        words: list[str] = []
        for option in OPTIONS:
            if option.name not in self.origins or (names and option.name not in names):
                continue
            if option.shape == FLAG:
                words.append(option.flag)
                continue
            attribute = option.name.replace("-", "_")
            given = values.get(option.name) or [_number(getattr(self, attribute))]
            words += [f"{option.flag}={value}" for value in given]
        return tuple(words)

    def replaying(self, layouts: Iterable[str]) -> tuple[str, ...]:
        """Return the options without which a test on these layouts would be another one.

        A layout may be one that no run selects by itself.
        """
        names = ",".join(layouts)
        return (*([f"--linkmode-layout={names}"] if names else []), *self.typed(*REPLAYED))

    def _fs_words(self) -> list[str]:
        words = [AUTO] if self.auto else []
        words += [ALL] if self.every else []
        return words + [str(request) for request in self.fs]


def read(
    config: pytest.Config,
    options: object,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of a run.

    `options` holds the parsed command line (``config.option``, or what is known of it before
    conftests are loaded). The command line wins over the ini file, and that over the
    environment; directories of all three are joined. Raises `UsageError` on a value that cannot
    be right whatever this machine has.
    """
    environ = os.environ if environ is None else environ
    found = given(config, options)
    values = {name: value for name, (value, _) in found.items()}
    origins = {name: origin for name, (_, origin) in found.items()}
    bases = {
        COMMAND_LINE: str(config.invocation_params.dir),
        INI_FILE: str(config.inipath.parent if config.inipath else config.rootpath),
    }
    return _settings(values, origins, bases, _ini_directories(config), environ)


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings where there is no run: what the environment says. Raises `UsageError`."""
    return _settings({}, {}, {}, (), os.environ if environ is None else environ)


def _ini_directories(config: pytest.Config) -> Sequence[str]:
    return config.getini(BY_NAME["dir"].key) or ()


def _settings(
    found: Mapping[str, Any],
    origins: dict[str, str],
    bases: Mapping[str, str],
    ini_directories: Sequence[str],
    environ: Mapping[str, str],
) -> Settings:
    def text(name: str) -> str | None:
        value = found.get(name)
        return None if value is None else str(value)

    def base(name: str) -> str:
        return bases[origins[name]]

    for name, value in found.items():
        _check_words(name, value)
        if _is_empty(value):
            raise _says_nothing(name, origins[name])
    requests = _requests(found.get("fs"))
    layouts = _words(found.get("layout"))
    if origins.get("fs") == COMMAND_LINE and origins.get("layout") == INI_FILE:
        # Filesystems typed for this run are meant instead of the layouts of every other run.
        layouts = tuple(name for name in layouts if name in GROUPS)
        if not layouts:
            del origins["layout"]
    dirs = _directories(found, origins, bases, ini_directories, environ)
    namespace = _choice("namespace", text("namespace") or "auto", NAMESPACES)
    if found.get("keep") and namespace != "host":
        raise _wrong_value(
            "--linkmode-keep",
            why="a private mount namespace goes away with the run, and all that is in it",
            hint="add --linkmode-namespace=host",
        )
    image_dir = text("image-dir")
    return Settings(
        fs=tuple(request for request in requests if request.name not in (AUTO, ALL)),
        auto=any(request.name == AUTO for request in requests)
        or not (requests or set(layouts) - set(GROUPS)),
        every=any(request.name == ALL for request in requests),
        layouts=layouts or None,
        tmp=text("tmp"),
        dirs=dirs,
        provider=text("provider"),
        namespace=namespace,
        linker=text("linker"),
        policy=text("policy") or "reference",
        require=_words(found.get("require")),
        fail_under=_percentage(text("fail-under")),
        fault=_faults(found.get("fault", ())),
        schedule=_schedule(text("schedule")),
        budget=_budget(text("budget")),
        report=tuple(
            dict.fromkeys(
                _report(os.path.join(base("report"), path)) for path in found.get("report", ())
            )
        ),
        keep=bool(found.get("keep")),
        image_dir=None if image_dir is None else os.path.join(base("image-dir"), image_dir),
        image_size=parse_size(text("image-size")),
        origins=origins,
    )


def _check_words(name: str, value: Any) -> None:
    """Raise UsageError for a list of the ini file that holds something else than words."""
    for word in value if isinstance(value, list) else ():
        if not isinstance(word, str):
            what = f"{BY_NAME[name].key} in the ini file"
            raise _wrong_value(what, why=f"{word!r} is no word", hint=f'write "{word}"')


def _is_empty(value: Any) -> bool:
    """Whether a value, or one that was given for an option among others, says nothing."""
    if isinstance(value, (str, list)):
        texts = [value] if isinstance(value, str) else value
        return not texts or not all(text.replace(",", " ").strip() for text in texts)
    return False


def _says_nothing(name: str, origin: str) -> Exception:
    option = BY_NAME[name]
    what = f"{option.key} in the ini file" if origin == INI_FILE else f"{option.flag}="
    hint = "an empty variable? Name something, or leave it out"
    return _wrong_value(what, why="it is empty", hint=hint)


def _requests(values: Sequence[str] | None) -> tuple[Request, ...]:
    requests: dict[str, Request] = {}
    for word in _words(values):
        name = word.removesuffix("?")
        if not name:
            raise _wrong("fs", word, why="a name must stand before the question mark")
        if name == AUTO and word.endswith("?"):
            raise _wrong("fs", word, why="'auto' is optional as it is")
        wanted = Request(name, word.endswith("?"))
        # Asked for twice, once without the question mark: it must be there.
        if name not in requests or requests[name].optional:
            requests[name] = wanted
    return tuple(requests.values())


def _directories(
    found: Mapping[str, Any],
    origins: dict[str, str],
    bases: Mapping[str, str],
    ini_directories: Sequence[str],
    environ: Mapping[str, str],
) -> dict[str, str]:
    dirs: dict[str, str] = {}
    for variable, path in sorted(environ.items()):
        if variable.startswith(DIRECTORY_VARIABLE) and path:
            name = variable.removeprefix(DIRECTORY_VARIABLE).lower().replace("_", "-")
            if not os.path.isabs(path):
                raise _wrong_value(f"{variable}={path}", why="the path must be absolute")
            dirs[name] = path
    if dirs:
        origins.setdefault("dir", ENVIRONMENT)
    dirs |= _named_paths(ini_directories, bases.get(INI_FILE, ""))
    if origins.get("dir") == COMMAND_LINE:
        dirs |= _named_paths(found["dir"], bases[COMMAND_LINE])
    return dirs


def _named_paths(entries: Iterable[str], base: str) -> dict[str, str]:
    """Return the directories that one place names, each of them once."""
    named: dict[str, str] = {}
    for entry in entries:
        name, _, path = (word.strip() for word in entry.partition("="))
        if not (name and path):
            raise _wrong("dir", entry, hint="write it as btrfs=/mnt/btrfs")
        path = os.path.join(base, os.path.expanduser(path))
        if named.setdefault(name, path) != path:
            raise _wrong("dir", entry, why=f"{name} is {named[name]} already", hint="give one")
    return named


def _words(values: Sequence[str] | None) -> tuple[str, ...]:
    words: dict[str, None] = {}
    for value in values or ():
        words.update(dict.fromkeys(value.replace(",", " ").split()))
    return tuple(words)


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value in choices:
        return value
    raise _wrong(name, value, hint=suggestion(value, choices))


def _percentage(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise _wrong("fail-under", text, hint="give a percentage from 0 to 100")
    return number


def _faults(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines as they were typed, once each of them can be read."""
    if lines:
        from pytest_linkmode.errors import UsageError
        from pytest_linkmode.faults.spec import parse

        for line in lines:
            try:
                parse(line)
            except UsageError as error:
                raise error.of(f"{BY_NAME['fault'].flag}={line}") from None
    return tuple(dict.fromkeys(lines))


def _schedule(text: str | None) -> str | None:
    """Return the line as it was typed, once it can be read."""
    if text is not None:
        from pytest_linkmode.interleave.schedule import parse

        parse(text.rpartition("=")[2])
    return text


def _budget(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise _wrong("budget", text, hint="give the number of cases, from 1")
    return int(text)


_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
LEAST_IMAGE = 1 << 20
"""Less is no filesystem, but a unit that was forgotten."""


def parse_size(text: str | None, option: str = BY_NAME["image-size"].flag) -> int:
    """Return a size in bytes, written as 512M or 4G; the default for None. Raises `UsageError`."""
    if text is None:
        return Settings.image_size
    word = text.strip().upper().removesuffix("IB").removesuffix("B")
    shift = _UNITS.get(word[-1:], 0)
    digits = word[:-1] if shift else word
    size = int(digits) << shift if digits.isascii() and digits.isdigit() else 0
    if size < LEAST_IMAGE:
        hint = "give 512M, 4G, or a number of bytes, at least 1M"
        raise _wrong_value(f"{option}={text}", hint=hint)
    return size


def _report(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in WRITERS:
        raise _wrong(
            "report",
            path,
            why=f"there is no report of kind {suffix!r}" if suffix else "the name has no suffix",
            hint=f"choose a name that ends in {' or '.join(WRITERS)}",
        )
    return os.path.normpath(path)


def parse_mode(mode: LinkMode | str) -> LinkMode:
    """Return the mode that is meant. Raises UsageError, naming the accepted words."""
    if isinstance(mode, LinkMode):
        return mode
    try:
        return LinkMode.parse(mode)
    except ValueError as error:
        from pytest_linkmode.errors import UsageError

        raise UsageError(str(error)) from None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the sentence that helps somebody who typed `word` and meant one of `known`."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
    start = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    return f"{start}Known: {', '.join(names)}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrong(name: str, value: str, *, why: str = "", hint: str = "") -> Exception:
    return _wrong_value(f"{BY_NAME[name].flag}={value}", why=why, hint=hint)


def _wrong_value(what: str, *, why: str = "", hint: str = "") -> Exception:
    from pytest_linkmode.errors import UsageError

    return UsageError(what, why=why or "not a value that this takes", hint=hint)
