"""What all tests share: pytest's own tools to test plugins, and a way to the support modules.

The checkout comes last on the path, so that an installed wheel is what the tests import.
"""

from __future__ import annotations

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

pytest_plugins = ["pytester"]
