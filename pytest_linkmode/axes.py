"""What tests are varied over, and how a fixture says so: by an attribute of its function.

The plugin finds it there when tests are generated, whatever the fixture is called and whoever
made it; and a test that has one of these among its fixtures is one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pytest

ATTRIBUTE = "pytest_linkmode_axis"

CHANNEL = "linkmode"
"""The name under which plain data travels: on reports, in workerinput and workeroutput."""

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
