"""Writing a report: in the form that its suffix names, in one piece."""

from __future__ import annotations

import importlib
import os

from pytest_linkmode.options import WRITERS
from pytest_linkmode.report.document import Document


def write(document: Document, path: str) -> None:
    """Write a report to `path`, its directory made if need be. Raises OSError."""
    writer = importlib.import_module(WRITERS[os.path.splitext(path)[1].lower()])
    write_text(writer.text(document), path)


def refusal(path: str) -> str:
    """Return in words why no file can be written at `path`, if that can be seen beforehand."""
    if os.path.isdir(path):
        return "it is a directory"
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        return f"{above} is not a directory"
    return "" if os.access(above, os.W_OK | os.X_OK) else f"{above} cannot be written to"


def write_text(text: str, path: str) -> None:
    """Write a file in one piece: it has its old content or the new one. Raises OSError."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        # Names of tests and files can be odd: what is no character is written as its escape.
        with open(unfinished, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(unfinished, path)
    except OSError:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise
