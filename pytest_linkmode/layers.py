"""What `open` puts on a raw file, for raw files of our own: buffers and encodings stay Python's."""

from __future__ import annotations

import io
from typing import Any


def layered(
    raw: io.FileIO,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """Put on a raw file the layers that `open` would (see `_pyio.open`)."""
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    layer: Any = io.BufferedWriter if set(mode) & set("wax") else io.BufferedReader
    if "+" in mode:
        layer = io.BufferedRandom
    buffer = layer(raw, size)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]  # `open` sets it, too
    return text
