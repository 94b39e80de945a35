"""Fixtures of the suite, and which of its tests apply to the linker at hand."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from linker.modes import LinkMode
from pytest_linkmode import factories
from pytest_linkmode.adapters import Adapter
from pytest_linkmode.conformance.cases import Case
from pytest_linkmode.layouts import Layout
from pytest_linkmode.stash import session_of

HERE = pathlib.Path(__file__).parent
HOSTILE_UMASK = 0o077


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out the modes that the linker does not have: they are not passes."""
    session = session_of(config)
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if not ours:
        return
    adapter = session.find_adapter()
    has = adapter.modes()
    out = []
    for item in ours:
        choice = item.callspec.params.get("link_mode") if hasattr(item, "callspec") else None
        wanted: LinkMode | None = getattr(choice, "mode", None)
        if wanted is not None and wanted not in has:
            session.ledger.deselected[item.nodeid] = (
                f"not applicable: {adapter.name} has no mode {wanted}"
            )
            out.append(item)
    if out:
        gone = set(out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=out)


linkmode_layout = factories.layout(special=True, only=lambda spec: not spec.refuses)
"""Every layout in which linking works: the suite knows what the special ones ask of it."""

refusing_layout = factories.layout(special=True, only=lambda spec: spec.refuses)
"""Every layout in which linking must fail, in some mode at least."""


@pytest.fixture
def case(linkmode_layout: Layout, link_mode: LinkMode, linkmode_linker: Adapter) -> Case:
    """A linker, a mode and two empty directories."""
    return Case(linkmode_linker, link_mode, linkmode_layout)


@pytest.fixture
def sample(case: Case, linkmode_tree: Callable[[pathlib.Path], None]) -> Case:
    """A case whose source holds the sample tree."""
    linkmode_tree(case.source)
    case.leave_out_what_cannot_arrive()
    if not case.layout.row.acts:
        # Before a test puts something where the layout may be another afterwards. What is to be
        # somebody's must be there when it is given to them.
        case.layout.seal()
    case.linker.prepare(case.source)
    return case


@pytest.fixture
def hostile_umask() -> Iterator[None]:
    """Let nobody but the owner at what is created, unless it is told otherwise."""
    before = os.umask(HOSTILE_UMASK)
    yield
    os.umask(before)
