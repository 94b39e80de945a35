"""Fixtures, and the factories that make them, so that a project can make more of its own.

`layout(needs={"reflink"})` returns a fixture like `linkmode_layout` that is varied over less;
`filesystem` and `mode` are the same for `linkmode_fs` and `link_mode`. What a fixture is varied
over hangs on its function, where the plugin finds it when tests are generated.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_linkmode.axes import FILESYSTEM, LAYOUT, MODE, Axis, ours
from pytest_linkmode.stash import session_of

if TYPE_CHECKING:
    from linker.modes import LinkMode
    from pytest_linkmode.adapters import Adapter
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.faults import FaultRunner
    from pytest_linkmode.interleave import Interleaver
    from pytest_linkmode.layouts import Layout, LayoutSpec, TestFilesystem, Workshop
    from pytest_linkmode.selection import Choice


def layout(
    *,
    fs: Iterable[str] | str | None = None,
    layout: Iterable[str] | str | None = None,
    needs: Iterable[str] | str = (),
    fresh: bool = False,
    special: bool = False,
    only: Callable[[LayoutSpec], bool] | None = None,
    name: str | None = None,
) -> Any:
    """Return a fixture that gives a `Layout`, over every selected layout that is left.

    The arguments narrow the selection as those of the marker do; `only` leaves the layouts for
    which it is true.
    """

    def linkmode_layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
        """Give a fresh source and target directory in each selected layout, and its powers."""
        with _prepared(request, LAYOUT, needs=needs, fresh=fresh) as (workshop, spec, _):
            made = session_of(request.config).layout(workshop, spec)
            yield made
            made.close()

    return _fixture(
        linkmode_layout,
        LAYOUT,
        name,
        fs=fs,
        layout=layout,
        needs=needs,
        special=special,
        only=only,
    )


def filesystem(
    *,
    fs: Iterable[str] | str | None = None,
    needs: Iterable[str] | str = (),
    fresh: bool = False,
    name: str | None = None,
) -> Any:
    """Return a fixture that gives a `TestFilesystem`, over every selected one that is left."""

    def linkmode_fs(request: pytest.FixtureRequest) -> Iterator[TestFilesystem]:
        """Give a fresh directory on each selected filesystem, and what can be done there."""
        with _prepared(request, FILESYSTEM, needs=needs, fresh=fresh) as (workshop, spec, can):
            yield _directory(workshop, spec, can)

    return _fixture(linkmode_fs, FILESYSTEM, name, fs=fs, needs=needs)


def mode(
    *, modes: Iterable[LinkMode | str] | LinkMode | str | None = None, name: str | None = None
) -> Any:
    """Return a fixture that gives a `LinkMode`, over those that are left of all four."""

    def link_mode(request: pytest.FixtureRequest) -> LinkMode:
        """Give each link mode: clone, hardlink, symlink, copy."""
        recorder = session_of(request.config).listener.observe(request.node)
        choice = _parameter(request, MODE)
        assert choice.mode is not None
        recorder.mode = choice.mode.value
        return choice.mode

    return _fixture(link_mode, MODE, name, modes=modes)


@pytest.fixture
def linkmode_tree() -> Callable[[str | os.PathLike[str]], None]:
    """Return a callable that fills a directory with a sample package.

    It has what linkers stumble over: namespaces, executables, symlinks, empty files.
    """
    from pytest_linkmode.samples import sample_tree

    return sample_tree


@pytest.fixture
@ours
def linkmode_linker(request: pytest.FixtureRequest) -> Adapter:
    """Return the linker under test, as ``--linkmode-linker`` names it, behind one seam."""
    session = session_of(request.config)
    session.listener.observe(request.node)
    return session.adapter


@pytest.fixture
@ours
def linkmode_faults(request: pytest.FixtureRequest) -> Iterator[FaultRunner]:
    """Give what runs programs, and functions, with faults, and sweeps over all of them.

    Skips where the system allows no such filter.
    """
    from pytest_linkmode.faults.pytest_faults import faults_of

    session = session_of(request.config)
    session.listener.observe(request.node)
    settings = session.settings
    with faults_of(
        request,
        settings.fault,
        settings.budget,
        session.witness,
        lambda: session.alone(request.node),
    ) as runner:
        yield runner


@pytest.fixture
@ours
def linkmode_interleave(request: pytest.FixtureRequest) -> Interleaver:
    """Return what explores the schedules of two or more linkers, or of programs."""
    from pytest_linkmode.interleave.pytest_interleave import interleaver_of

    session = session_of(request.config)
    session.listener.observe(request.node)
    settings = session.settings
    return interleaver_of(
        request, settings.schedule, settings.budget, lambda: session.alone(request.node)
    )


@pytest.fixture(scope="session")
@ours
def linkmode_fs_factory(request: pytest.FixtureRequest) -> Callable[[str], TestFilesystem]:
    """Return a callable that gives a new directory on the filesystem of a name.

    For what is dear to make and must lie where the tests are. Skips where it cannot be had,
    unless it was asked for by name.
    """
    session = session_of(request.config)

    def make(name: str) -> TestFilesystem:
        with session.having(session.named_filesystem(name)) as spec:
            can = session.workshop.can(spec.source)
            made = _directory(session.workshop, spec, can)
        session.listener.gave(spec.name, can)
        return made

    return make


@pytest.fixture(scope="session")
@ours
def linkmode_layout_factory(request: pytest.FixtureRequest) -> Callable[[str], Layout]:
    """Return a callable that gives new source and target directories in the layout of a name."""
    session = session_of(request.config)

    def make(name: str) -> Layout:
        with session.having(session.named_layout(name)) as spec:
            layout = session.layout(session.workshop, spec)
        session.listener.gave(layout.name, layout.can)
        return layout

    return make


def _fixture(function: Callable[..., Any], axis: str, name: str | None, **limits: Any) -> Any:
    given = {key: value for key, value in limits.items() if value is not None}
    return pytest.fixture(name=name)(ours(function, Axis(axis, given)))


@contextmanager
def _prepared(
    request: pytest.FixtureRequest, axis: str, *, needs: Iterable[str] | str, fresh: bool
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
    from pytest_linkmode.layouts import TestFilesystem

    return TestFilesystem(spec.name, pathlib.Path(workshop.directory(spec.source)), can)


def _parameter(request: pytest.FixtureRequest, axis: str) -> Choice:
    """Return what a fixture is to give: a parameter of ours, or a word of the test's own."""
    from pytest_linkmode.selection import Choice, choice_of

    given = getattr(request, "param", None)
    if isinstance(given, Choice):
        return given
    if given is None:
        pytest.fail(
            f"the fixture {request.fixturename} is varied over what was selected: "
            "make it an argument of the test or of one of its fixtures",
            pytrace=False,
        )
    return choice_of(given, mode=axis == MODE)


def _words(value: Iterable[str] | str) -> Iterable[str]:
    return (value,) if isinstance(value, str) else value
