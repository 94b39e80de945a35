"""What a reader of a report has to know of the machine that it was made on."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import version


def facts() -> dict[str, str]:
    """Return the facts, in the order in which they are shown."""
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    root = not hasattr(os, "geteuid") or os.geteuid() == 0
    return {
        "system": system,
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processors": str(os.cpu_count()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pytest": version("pytest"),
        "pytest-linkmode": version("pytest-linkmode"),
        "user": "root" if root else "ordinary",
    }
