"""How hypothesis looks for examples in these tests: every such test says `@settings(PROFILE)`.

The same ones in every run, and as many on a slow machine as on a fast one. To look further, at
random: ``LINKER_PROFILE=linker-long pytest tests/linker/test_properties.py``
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

from hypothesis import HealthCheck, settings

# It imports this only when it needs it, by then maybe as a user who cannot read where it lies.
with suppress(ImportError):
    importlib.import_module("hypothesis.internal.conjecture.optimiser")

NAME = os.environ.get("LINKER_PROFILE", "linker")

settings.register_profile(
    "linker",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "linker-long", settings.get_profile("linker"), derandomize=False, max_examples=5_000
)
PROFILE = settings.get_profile(NAME)
