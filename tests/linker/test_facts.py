"""Every error that the facts name, at the primitive that ends so, has an edge in the policy."""

from __future__ import annotations

import errno

import pytest

from linker.conditions import TABLES, Condition, Primitive, condition_of
from linker.modes import LinkMode
from linker.policies import REFERENCE
from linker.policy import PRIMITIVES, Edge
from tests.linker.facts import FACTS

NAMED = sorted({(fact.platform, fact.primitive, error) for fact in FACTS for error in fact.errors})
NEVER_ASKED = {
    ("linux", Primitive.CLONE_DIRECTORY): Condition.UNSUPPORTED,
    ("windows", Primitive.UNLINK): Condition.BUSY,
}
"""Primitives about which the policy is never asked: because the linker does not call them on a
platform, or because undoing and tidying up have no other way to go."""


def edges(platform: str, primitive: Primitive, error: str) -> list[Edge]:
    """Return what the policy does about it in each mode in which the primitive makes files, or in
    every mode if it makes none."""
    condition = condition_of(platform, primitive, error)
    modes = [mode for mode, makes in PRIMITIVES.items() if makes is primitive] or list(LinkMode)
    found = [REFERENCE.edge(platform, mode, primitive, condition) for mode in modes]
    return [edge for edge in found if edge is not None]


@pytest.mark.parametrize(("platform", "primitive", "error"), NAMED, ids=str)
def test_an_error_that_was_seen_meets_an_edge(
    platform: str, primitive: Primitive, error: str
) -> None:
    assert condition_of(platform, primitive, error) is not Condition.OTHER
    if (platform, primitive) in NEVER_ASKED:
        assert condition_of(platform, primitive, error) is NEVER_ASKED[platform, primitive]
    else:
        assert edges(platform, primitive, error)


def test_the_list_is_counted() -> None:
    assert len(NAMED) == 52
    assert {platform for platform, _, _ in NAMED} == set(TABLES)


def test_errors_of_posix_systems_have_names_that_exist() -> None:
    for platform, _, error in NAMED:
        assert hasattr(errno, error) != (platform == "windows")
