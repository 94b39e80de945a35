"""Tests made out of one: each is varied over what the settings and its markers leave.

Everything here happens at collection, and comes to the same in every worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.axes import AXES, FILESYSTEM, LAYOUT, MODE, Axis, axis_of

if TYPE_CHECKING:
    from pytest_linkmode.selection import Choice
    from pytest_linkmode.sessions import Session


def generate(session: Session, metafunc: pytest.Metafunc) -> None:
    """Vary a test over each fixture of ours that it uses: layouts, filesystems, then link modes.

    Raises CollectError where a marker or a factory was given what does not exist.
    """
    axes = sorted(_axes(metafunc), key=lambda found: AXES.index(found[1].name))
    if not axes:
        return
    from pytest_linkmode.errors import UsageError
    from pytest_linkmode.selection import known_specials, narrow, narrowing, nothing

    try:
        rules = session.rules(metafunc.definition)
        left: list[tuple[str, tuple[Choice, ...]]] = []
        for argument, axis in axes:
            every = {
                LAYOUT: session.selection.layouts,
                FILESYSTEM: session.selection.filesystems,
                MODE: session.selection.modes,
            }[axis.name]
            limits = [*rules, narrowing(known=session.kinds, **axis.limits)]
            if axis.name == LAYOUT:
                every += known_specials(session.selection.specials, limits)
            choices = narrow(every, limits, lone=axis.name == FILESYSTEM)
            if not choices:
                # One test that is deselected and says why, whatever else it is varied over.
                left = [(each, (nothing(axis.name),)) for each, _ in axes]
                break
            left.append((argument, choices))
    except UsageError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.name}: {error}") from None
    for argument, choices in left:
        metafunc.parametrize(
            argument,
            [
                pytest.param(
                    choice,
                    id=choice.name,
                    marks=[pytest.mark.skip(reason=choice.skip)] if choice.skip else [],
                )
                for choice in choices
            ],
            indirect=True,
        )


def deselect(session: Session, items: list[pytest.Item]) -> None:
    """Take out the tests that a marker left without a parameter, or whose layout lacks a need."""
    kept: list[pytest.Item] = []
    out: list[pytest.Item] = []
    for item in items:
        reason = next(_reasons(item), "")
        if reason:
            out.append(item)
            session.ledger.deselected[item.nodeid] = reason
        else:
            kept.append(item)
    if out:
        items[:] = kept
        session.config.hook.pytest_deselected(items=out)


def _reasons(item: pytest.Item) -> Iterator[str]:
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        # The type first: what others vary their tests over may answer anything, or raise.
        if type(value).__module__ == "pytest_linkmode.selection" and value.out:
            yield value.out


def _axes(metafunc: pytest.Metafunc) -> Iterator[tuple[str, Axis]]:
    """Find the arguments that fixtures of ours serve, as pytest finds parametrized fixtures."""
    for argument in metafunc.fixturenames:
        for fixture in reversed(metafunc._arg2fixturedefs.get(argument, ())):
            axis = axis_of(fixture.func)
            if axis is not None:
                if axis.name and not _is_given(metafunc, argument):
                    yield argument, axis
                break
            # A fixture that overrides ours and asks for it is varied as ours is, or by itself.
            if argument not in fixture.argnames or fixture.params is not None:
                break


def _is_given(metafunc: pytest.Metafunc, argument: str) -> bool:
    """Whether the test itself says what this argument is, or a hook that came first."""
    if any(argument in call.params for call in metafunc._calls):
        return True
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if argument in names:
            return True
    return False
