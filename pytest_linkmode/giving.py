"""What fixtures give: a place for a test on what its parameter says, or a skip with every reason.

The fixtures themselves are made by `factories`, which every run of pytest loads; this is loaded by
the first test that has one.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.axes import FILESYSTEM, LAYOUT, MODE
from pytest_linkmode.filesystems.registry import remove_used
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.selection import Choice, choice_of
from pytest_linkmode.stash import session_of

if TYPE_CHECKING:
    from linker.modes import LinkMode
    from pytest_linkmode.adapters import Adapter
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.faults import FaultRunner
    from pytest_linkmode.interleave import Interleaver
    from pytest_linkmode.layouts import Layout, LayoutSpec, Workshop
    from pytest_linkmode.sessions import Session


@contextmanager
def give_layout(
    request: pytest.FixtureRequest, needs: Iterable[str] | str, *, fresh: bool
) -> Iterator[Layout]:
    """Give a fresh source and target directory in the layout of a parameter, and its powers."""
    with _prepared(request, LAYOUT, needs, fresh=fresh) as (workshop, spec, _):
        made = session_of(request.config).layout(workshop, spec)
        yield made
        made.close()


@contextmanager
def give_filesystem(
    request: pytest.FixtureRequest, needs: Iterable[str] | str, *, fresh: bool
) -> Iterator[TestFilesystem]:
    """Give a fresh directory on the filesystem of a parameter, and what can be done there."""
    with _prepared(request, FILESYSTEM, needs, fresh=fresh) as (workshop, spec, can):
        made = _directory(workshop, spec, can)
        yield made
        if not session_of(request.config).settings.keep:
            remove_used(str(made.path))


def give_mode(request: pytest.FixtureRequest) -> LinkMode:
    """Return the link mode of a parameter."""
    recorder = session_of(request.config).listener.observe(request.node)
    choice = _parameter(request, MODE)
    assert choice.mode is not None
    recorder.mode = choice.mode.value
    return choice.mode


def give_linker(request: pytest.FixtureRequest) -> Adapter:
    """Return the linker under test."""
    return _observed(request).adapter


@contextmanager
def give_faults(request: pytest.FixtureRequest) -> Iterator[FaultRunner]:
    """Give what runs programs and functions with faults. Skips where the system has no filter."""
    from pytest_linkmode.faults.pytest_faults import faults_of

    session = _observed(request)
    settings = session.settings
    with faults_of(
        request,
        settings.fault,
        settings.budget,
        session.witness,
        lambda: session.alone(request.node),
    ) as runner:
        yield runner


def give_interleaver(request: pytest.FixtureRequest) -> Interleaver:
    """Return what explores schedules."""
    from pytest_linkmode.interleave.pytest_interleave import interleaver_of

    session = _observed(request)
    settings = session.settings
    return interleaver_of(
        request, settings.schedule, settings.budget, lambda: session.alone(request.node)
    )


def give_filesystem_factory(request: pytest.FixtureRequest) -> Callable[[str], TestFilesystem]:
    """Return a callable that gives a new directory on the filesystem of a name."""
    session = session_of(request.config)

    def make(name: str) -> TestFilesystem:
        with session.having(session.named_filesystem(name)) as spec:
            can = session.workshop.can(spec.source)
            made = _directory(session.workshop, spec, can)
        _tell(request, spec.name, can)
        return made

    return make


def give_layout_factory(request: pytest.FixtureRequest) -> Callable[[str], Layout]:
    """Return a callable that gives new source and target directories in the layout of a name."""
    session = session_of(request.config)

    def make(name: str) -> Layout:
        with session.having(session.named_layout(name)) as spec:
            layout = session.layout(session.workshop, spec)
        _tell(request, layout.name, layout.can)
        return layout

    return make


def _tell(request: pytest.FixtureRequest, name: str, can: Capabilities) -> None:
    """Let it be known what the test that runs was given, which may have asked for it only now."""
    _observed(request).listener.gave(name, can)


def _observed(request: pytest.FixtureRequest) -> Session:
    """Return the state of the run, which listens to what the linker does for this test."""
    session = session_of(request.config)
    session.listener.observe(request.node)
    return session


@contextmanager
def _prepared(
    request: pytest.FixtureRequest, axis: str, needs: Iterable[str] | str, *, fresh: bool
) -> Iterator[tuple[Workshop, LayoutSpec, Capabilities]]:
    """Find a place for a test on what its parameter says, or skip it with every reason."""
    session = session_of(request.config)
    recorder = session.listener.observe(request.node)
    rules = session.rules(request.node)
    needed = frozenset(_words(needs)).union(*(rule.needs for rule in rules))
    with ExitStack() as stack:
        workshop = session.workshop
        if fresh or any(rule.fresh for rule in rules):
            workshop = stack.enter_context(session.new_workshop())
        with session.having(_parameter(request, axis)) as spec:
            can = workshop.place(spec).can if axis == LAYOUT else workshop.can(spec.source)
        if axis == LAYOUT:
            recorder.layout, recorder.can = spec.name, can.names
        session.listener.gave(spec.name, can)
        lacking = sorted(needed - can.names)
        if lacking:
            reasons = "; ".join(f"no {name}: {can.why[name]}" for name in lacking)
            recorder.not_applicable = f"not applicable: {spec.name} has {reasons}"
            pytest.skip(recorder.not_applicable)
        yield workshop, spec, can


def _directory(workshop: Workshop, spec: LayoutSpec, can: Capabilities) -> TestFilesystem:
    """Return a new directory on a filesystem, for one test."""
    return TestFilesystem(spec.name, pathlib.Path(workshop.directory(spec.source)), can)


def _parameter(request: pytest.FixtureRequest, axis: str) -> Choice:
    """Return what a fixture is to give: a parameter of ours, or a word of the test's own."""
    given = getattr(request, "param", None)
    if isinstance(given, Choice):
        return given
    if given is None:
        mend = "make it an argument of the test or of one of its fixtures"
        if not _is_variable(request.node):
            mend = f"pytest cannot vary unittest.TestCase or doctests: {_INVARIABLY[axis]}"
        pytest.fail(
            f"the fixture {request.fixturename} is varied over what was selected: {mend}",
            pytrace=False,
        )
    return choice_of(given, mode=axis == MODE)


_INVARIABLY: Mapping[str, str] = {
    LAYOUT: "use linkmode_layout_factory there, which gives the layout of a name",
    FILESYSTEM: "use linkmode_fs_factory there, which gives the filesystem of a name",
    MODE: "go through linker.LinkMode there",
}
"""What takes the place of a fixture, by its axis, in a test of which pytest cannot make several."""


def _is_variable(node: pytest.Item) -> bool:
    """Whether pytest can make several tests out of this one."""
    from unittest import TestCase

    return isinstance(node, pytest.Function) and not (
        node.cls is not None and issubclass(node.cls, TestCase)
    )


def _words(value: Iterable[str] | str) -> Iterable[str]:
    return (value,) if isinstance(value, str) else value
