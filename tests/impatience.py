"""Somebody who presses Ctrl-C while a command is still being loaded."""

from __future__ import annotations

from pathlib import Path


def press_early(directory: Path) -> None:
    """Let every Python that finds modules in `directory` be interrupted as it loads the linker."""
    (directory / "sitecustomize.py").write_text(
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'linker.modes':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n",
        encoding="utf-8",
    )
