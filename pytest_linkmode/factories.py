"""Fixtures, and the factories that make them, so that a project can make more of its own.

`layout(needs={"reflink"})` returns a fixture like `linkmode_layout` that is varied over less;
`filesystem` and `mode` are the same for `linkmode_fs` and `link_mode`. What a fixture is varied
over hangs on its function, where the plugin finds it when tests are generated.

What they give is imported from its module, by name: another run in this process, as of pytester,
has modules of its own, and the package still knows those of the run before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_linkmode.axes import FILESYSTEM, LAYOUT, MODE, Axis, ours

if TYPE_CHECKING:
    from linker.modes import LinkMode
    from pytest_linkmode.adapters import Adapter
    from pytest_linkmode.faults import FaultRunner
    from pytest_linkmode.interleave import Interleaver
    from pytest_linkmode.layouts import Layout, LayoutSpec, TestFilesystem


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
        from pytest_linkmode.giving import give_layout

        with give_layout(request, needs, fresh=fresh) as made:
            yield made

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
        from pytest_linkmode.giving import give_filesystem

        with give_filesystem(request, needs, fresh=fresh) as made:
            yield made

    return _fixture(linkmode_fs, FILESYSTEM, name, fs=fs, needs=needs)


def mode(
    *, modes: Iterable[LinkMode | str] | LinkMode | str | None = None, name: str | None = None
) -> Any:
    """Return a fixture that gives a `LinkMode`, over those that are left of all four."""

    def link_mode(request: pytest.FixtureRequest) -> LinkMode:
        """Give each link mode: clone, hardlink, symlink, copy."""
        from pytest_linkmode.giving import give_mode

        return give_mode(request)

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
    from pytest_linkmode.giving import give_linker

    return give_linker(request)


@pytest.fixture
@ours
def linkmode_faults(request: pytest.FixtureRequest) -> Iterator[FaultRunner]:
    """Give what runs programs, and functions, with faults, and sweeps over all of them.

    Skips where the system allows no such filter.
    """
    from pytest_linkmode.giving import give_faults

    with give_faults(request) as runner:
        yield runner


@pytest.fixture
@ours
def linkmode_interleave(request: pytest.FixtureRequest) -> Interleaver:
    """Return what explores the schedules of two or more linkers, or of programs."""
    from pytest_linkmode.giving import give_interleaver

    return give_interleaver(request)


@pytest.fixture(scope="session")
@ours
def linkmode_fs_factory(request: pytest.FixtureRequest) -> Callable[[str], TestFilesystem]:
    """Return a callable that gives a new directory on the filesystem of a name.

    For what is dear to make and must lie where the tests are. Skips where it cannot be had,
    unless it was asked for by name.
    """
    from pytest_linkmode.giving import give_filesystem_factory

    return give_filesystem_factory(request)


@pytest.fixture(scope="session")
@ours
def linkmode_layout_factory(request: pytest.FixtureRequest) -> Callable[[str], Layout]:
    """Return a callable that gives new source and target directories in the layout of a name."""
    from pytest_linkmode.giving import give_layout_factory

    return give_layout_factory(request)


def _fixture(function: Callable[..., Any], axis: str, name: str | None, **limits: Any) -> Any:
    given = {key: value for key, value in limits.items() if value is not None}
    return pytest.fixture(name=name)(ours(function, Axis(axis, given)))
