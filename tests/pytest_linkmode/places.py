"""Two filesystems that are there on every machine of a kind, so that tests need mount nothing."""

from __future__ import annotations

import sys

OTHER = "drive" if sys.platform == "win32" else "shm"
"""The filesystem that is not that of the working disk: another drive, or memory."""

ACROSS = f"disk:{OTHER}"
"""The layout from one to the other."""

DIRECTORIES = (f"--linkmode-layout=disk,{ACROSS}", "--linkmode-namespace=host")
"""What makes a run use these."""
