"""What tests are varied over, and how a fixture says so: by an attribute of its function.

The plugin finds it there when tests are generated, whatever the fixture is called and whoever
made it; and a test that has one of these among its fixtures is one of ours. Only then is there a
state of the run, unless something was asked for: `session_of` makes it on its first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from pytest_linkmode.sessions import Session

ATTRIBUTE = "pytest_linkmode_axis"

CHANNEL = "linkmode"
"""The name under which plain data travels: on reports, in workerinput and workeroutput."""

KEY: pytest.StashKey[Session] = pytest.StashKey()
"""Under it the state of a run lies in the stash of its config, once there is any."""

ASKED: pytest.StashKey[bool] = pytest.StashKey()
"""Under it lies whether anything was asked for of a run, as it was when the run was configured."""

LAYOUT = "layout"
FILESYSTEM = "filesystem"
MODE = "link mode"
AXES = (LAYOUT, FILESYSTEM, MODE)
"""What tests are varied over, in the order in which it appears in their ids."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Axis:
    """What hangs on the function of a fixture of ours.

    `name` is one of `AXES`, or empty for a fixture that varies nothing; `limits` are the
    arguments of the factory, which are those of the marker.
    """

    def __init__(self, name: str = "", limits: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.name = name
        self.limits = limits


def session_of(config: pytest.Config) -> Session:
    """Return the state of this run, made on its first use."""
    session = config.stash.get(KEY, None)
    if session is None:
        from pytest_linkmode.sessions import Session

        session = Session(config, config.option, is_explicit=config.stash[ASKED])
        config.stash[KEY] = session
        config.add_cleanup(session.close)
    return session


def ours(function: Function, axis: Axis | None = None) -> Function:
    """Mark the function of a fixture as one of ours, and return it."""
    setattr(function, ATTRIBUTE, axis or Axis())
    return function


def axis_of(function: object) -> Axis | None:
    """Return what a fixture is varied over, or None if it is not one of ours."""
    return getattr(function, ATTRIBUTE, None)


def uses_ours(item: pytest.Item) -> bool:
    """Whether a fixture of ours, or one made by our factories, is among those of a test."""
    info = getattr(item, "_fixtureinfo", None)
    return info is not None and has_ours(info.name2fixturedefs)


def has_ours(fixtures: Mapping[str, Sequence[pytest.FixtureDef[Any]]]) -> bool:
    """Whether one of these fixtures, by their names, is of ours or made by our factories."""
    return any(hasattr(each.func, ATTRIBUTE) for found in fixtures.values() for each in found)
