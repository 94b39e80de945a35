import importlib
import os

import pytest


@pytest.fixture
def cache_of():
    """The class under test: of the package, or of the module that SHELF names."""
    return importlib.import_module(os.environ.get("SHELF", "shelf")).Cache
