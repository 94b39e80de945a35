"""The conformance suite on the reference linker on macOS: over the model, on real disks."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import kind_of, missing

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize(
    ("linker", "layout"), [("whole", "btrfs"), ("items", "xfs"), ("whole", "tmpfs")]
)
def test_the_linker_conforms_on_macos_too(
    outside: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    linker: str,
    layout: str,
) -> None:
    unavailable = missing(kind_of(layout), Settings())
    if unavailable is not None:
        pytest.skip(str(unavailable))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    result = outside(
        *("--pyargs", "pytest_linkmode.conformance", f"--linkmode-layout={layout}"),
        f"--linkmode-linker=mac_linkers:{linker}",
    )
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") > 150
    assert not outcomes.keys() & {"failed", "errors", "skipped"}
