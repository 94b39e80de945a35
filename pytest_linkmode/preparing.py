"""What happens before collection: all that was asked for by name is looked at, and really had.

A wrong word, or a filesystem that cannot be had, ends the run before it begins, with everything
that is missing said at once. In workers of pytest-xdist only what each needs for itself is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import missing, provider_for
from pytest_linkmode.options import only_shows
from pytest_linkmode.selection import Want, check, exact_layouts
from pytest_linkmode.sessions import Session
from pytest_linkmode.stash import session_of

GUESTS = "uml"
"""The provider whose filesystems lie in another kernel."""

if TYPE_CHECKING:
    from pytest_linkmode.layouts import LayoutSpec


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn errors of ours into pytest's own way to end a run before it begins."""
    try:
        yield
    except LinkmodeError as error:
        raise pytest.UsageError(str(error)) from None


@_usage_errors()
def enter_early(config: pytest.Config) -> None:
    """Enter the place before conftests are loaded, if what was asked for is mounted there.

    That is so even where the filesystems are directories: the other side of a layout is most
    often a tmpfs of ours. Raises pytest.UsageError.
    """
    options = config.known_args_namespace
    session = Session(config, options, is_explicit=True)
    settings = session.settings
    private = "namespace" in settings.origins and settings.namespace == "private"
    asked = settings.asks_for_filesystems or settings.tmp or private
    if asked and not (only_shows(options) or options.collectonly):
        session.find_place()


@_usage_errors()
def prepare(config: pytest.Config) -> None:
    """Do all that has to be done before collection.

    Raises pytest.UsageError for a wrong word, and with all that was asked for by name and cannot
    be had.
    """
    session = session_of(config)
    settings, options = session.settings, config.option
    if only_shows(options):
        return
    if not session.is_worker:
        _check_words(session)
        if settings.tmp and options.basetemp:
            raise UsageError(
                f"--linkmode-tmp={settings.tmp} and --basetemp={options.basetemp}",
                why="both say where tmp_path lies",
                hint="give one",
            )
        if settings.report and not options.collectonly:
            _check_reports(settings.report)
        if not options.collectonly:
            _send_for_guests(session)
        _check_filesystems(session)
    if settings.tmp and not session.is_distributed and not options.collectonly:
        # A directory that pytest removes and makes anew must not be a mount point itself.
        base = session.workshop.directory(settings.tmp)
        options.basetemp = os.path.join(base, "pytest")


def _check_words(session: Session) -> None:
    """Look up every name that was given. Raises UsageError."""
    settings = session.settings

    def capabilities() -> None:
        from pytest_linkmode.capabilities import CAPABILITIES

        for name in settings.require:
            check("capability", name, CAPABILITIES)

    def linker() -> None:
        from pytest_linkmode.adapters import CommandAdapter

        adapter = session.find_adapter()
        if settings.is_typed("linker") and isinstance(adapter, CommandAdapter):
            adapter.check(to_be_built=True)

    looking_up: Mapping[str, Callable[[], object]] = {
        "tmp": lambda: check("filesystem", str(settings.tmp), session.kinds),
        # Any filesystem tells whether there is a provider of that name.
        "provider": lambda: missing(next(iter(session.kinds.values())), settings),
        "linker": linker,
        "policy": session.find_policy,
        "require": capabilities,
    }
    for name, look_up in looking_up.items():
        if name in settings.origins:
            with _asked_by(settings.typed(name)):
                look_up()
    with _asked_by(settings.typed("fs", "layout", "dir")):
        _ = session.wanted
    # One of the ini file may be there for some runs only: who needs it then says so.
    images = settings.image_dir if settings.is_typed("image-dir") else None
    if images is not None and not os.path.isdir(images):
        raise UsageError(
            " ".join(settings.typed("image-dir")),
            why="it is no directory",
            hint="make it, or name another",
        )


@contextmanager
def _asked_by(options: Sequence[str]) -> Iterator[None]:
    """Let what is refused meanwhile begin with the options that asked for it."""
    try:
        yield
    except UsageError as error:
        if not options or error.what.startswith("--linkmode-"):
            raise
        raise error.of(" ".join(options)) from None


def _check_reports(paths: Sequence[str]) -> None:
    """Look whether each report can be written. Raises UsageError."""
    from pytest_linkmode.report.writing import refusal

    for path in paths:
        if why := refusal(path):
            raise UsageError(f"--linkmode-report={path}", why=why, hint="choose another place")


def _send_for_guests(session: Session) -> None:
    """Let pytest-xdist start a guest for what can be had nowhere else. Raises UsageError."""
    settings, options = session.settings, session.config.option
    if not (settings.asks_for_filesystems or settings.tmp):
        return
    names = {*session.wanted, *filter(None, [settings.tmp])}
    made = frozenset(
        name for name in names if provider_for(session.kinds[name], settings) == GUESTS
    )
    if not made:
        return
    from pytest_linkmode.guests import uml
    from pytest_linkmode.guests.starting import Starting

    for name in sorted(names):
        if name not in made:
            session.missing(name)  # workers must not find out for themselves, and differ
    session.guests = made
    uml.send_for(options, everything=settings.tmp in made)
    session.config.pluginmanager.register(Starting(), "linkmode-guests")


def _check_filesystems(session: Session) -> None:
    """Have what was asked for by name. Raises Unavailable with all that cannot be had."""
    settings = session.settings
    wanted = {name: want for name, want in session.wanted.items() if want is not Want.AUTOMATIC}
    wanted |= dict.fromkeys(settings.dirs, Want.REQUIRED)
    if settings.tmp:
        wanted[settings.tmp] = Want.REQUIRED
    causes: dict[str, Unavailable] = {}
    for name, want in wanted.items():
        error = None if name in session.guests else _try_filesystem(session, name)
        session.found_out(name, error)
        if error and want is Want.REQUIRED:
            causes[name] = error
    for spec in () if causes else exact_layouts(settings):
        if session.guests & {spec.source, spec.target}:
            continue
        error = _try_layout(session, spec)
        if error:
            causes[spec.name] = error
    if session.is_distributed:
        # That it can be had is known now; each worker makes its own.
        session.leave_workshop()
    if causes:
        asked = " ".join(settings.typed("fs", "layout", "tmp", "dir"))
        what = f"{asked}: {', '.join(causes)} cannot be had here"
        raise Unavailable.all_of(what, list(causes.values()))


def _try_filesystem(session: Session, name: str) -> Unavailable | None:
    if session.config.option.collectonly:
        return missing(session.kinds[name], session.settings)
    try:
        session.workshop.filesystem(name)
    except Unavailable as error:
        return error
    return None


def _try_layout(session: Session, spec: LayoutSpec) -> Unavailable | None:
    if session.config.option.collectonly:
        from pytest_linkmode import layouts

        return layouts.missing(spec, session.settings)
    try:
        session.workshop.place(spec)
    except Unavailable as error:
        return error
    return None
