"""The hooks that a project may implement in its conftest.py or in a plugin of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_linkmode.filesystems import Kind


@pytest.hookspec
def pytest_linkmode_filesystems(config: pytest.Config) -> Iterable[Kind]:  # type: ignore[empty-body]
    """Return filesystems of the project's own: rows that are added to the table.

    The providers of a row are names of ours (``directory`` gets whatever a person names with
    ``--linkmode-dir``) or objects of the project's own. Asked once a run, when something of ours
    is first used, in the controller and in each worker; implement it in the conftest.py of the
    root directory or in a plugin. A row of a name that is taken replaces that one.
    """
