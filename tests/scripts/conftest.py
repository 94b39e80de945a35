"""The scripts are no part of the wheel: their tests find them beside the tests."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if ROOT not in sys.path:
    # At the end: the packages are tested as they are installed.
    sys.path.append(ROOT)

from scripts.wheels import Pin  # noqa: E402

DATE = (2024, 2, 29, 12, 30, 58)


@pytest.fixture
def make_wheel() -> Callable[[Path, str, dict[str, tuple[bytes, int]]], Pin]:
    """Return a function that writes a wheel of (content, mode) by path, and returns its pin."""

    def make(directory: Path, name: str, entries: dict[str, tuple[bytes, int]]) -> Pin:
        directory.mkdir(exist_ok=True)
        path = directory / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, (content, mode) in entries.items():
                info = zipfile.ZipInfo(entry, DATE)
                info.external_attr = mode << 16
                archive.writestr(info, content)
        return Pin(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())

    return make
