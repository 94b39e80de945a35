"""The modules whose tests take longest: workers begin with them, so that none waits at the end."""

from __future__ import annotations

from collections.abc import Sequence

MODULES: Sequence[str] = (
    "pytest_linkmode/ladder/test_guests.py",
    "linker/test_every_fault.py",
    "pytest_linkmode/interleave/test_reference_races.py",
    "linker/test_kill.py",
    "linker/test_sweep.py",
    "linker/test_macos_sweep.py",
    "pytest_linkmode/test_conformance_layouts.py",
    "pytest_linkmode/test_conformance.py",
    "pytest_linkmode/models/test_conformance_macos.py",
    "pytest_linkmode/ladder/test_user_namespace.py",
    "pytest_linkmode/ladder/test_gateways.py",
    "pytest_linkmode/ladder/test_sudo.py",
    "pytest_linkmode/test_signals.py",
    "pytest_linkmode/test_xdist.py",
    "examples/test_examples.py",
    "test_consoles.py",
)
