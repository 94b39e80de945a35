"""What all tests share: pytest's own tools to test plugins."""

from __future__ import annotations

pytest_plugins = ["pytester"]
