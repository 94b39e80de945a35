"""How the table of the reference linker's platform on Windows is read for faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linker.platforms import windows
from pytest_linkmode.faults.inprocess import refusal
from pytest_linkmode.faults.linking import Dialect, Row, Where

Given = tuple[Any, ...]
Options = Mapping[str, Any]

_EXTENDED = (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", ""))
"""What long paths begin with -> what they would, were they short."""


def _short(path: str) -> str:
    """Return a path as people write it."""
    for long, plain in _EXTENDED:
        if path.startswith(long):
            return plain + path[len(long) :]
    return path


def _where(opened: Mapping[Any, str]) -> Where:
    return lambda handle: _short(opened.get(handle, f"handle {handle}"))


def _one(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (_short(given[0]) if isinstance(given[0], str) else where(given[0]),)


def _pair(_where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (_short(given[0]), _short(given[1]))


def _made_first(_where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (_short(given[1]), _short(given[0]))


def _renamed(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (where(given[0]), _short(given[1]))


def _controlled(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    handle, code, data = given[:3]
    if code != windows.FSCTL_DUPLICATE_EXTENTS_TO_FILE:
        return (where(handle),)
    return (where(windows.DUPLICATE.unpack(data)[0]), where(handle))


def _opening(given: Given) -> str:
    _, access, _, disposition, _ = given
    if disposition == windows.CREATE_NEW:
        return "create"
    # Who locks a directory opens it for what nobody else may then: see `WindowsPlatform.lock`.
    return "lock" if access & windows.FILE_ADD_FILE else "open"


_CONTROLS = {
    windows.FSCTL_DUPLICATE_EXTENTS_TO_FILE: "clone",
    windows.FSCTL_GET_INTEGRITY_INFORMATION: "read",
    windows.FSCTL_QUERY_ALLOCATED_RANGES: "read",
    windows.FSCTL_SET_INTEGRITY_INFORMATION: "stamp",
    windows.FSCTL_SET_SPARSE: "stamp",
}
"""What DeviceIoControl is asked for -> the op of it."""

_READING = (
    *("read", "seek", "information", "volume_flags", "security"),
    *("lstat", "readlink", "spelled"),
)

ROWS: Mapping[str, Row] = {
    "open": Row(("open", "create", "lock"), _one, which=_opening),
    "close": Row(("close",), _one),
    **dict.fromkeys((*_READING, "scandir", "access"), Row(("read",), _one)),
    **dict.fromkeys(("write", "extend"), Row(("copy",), _one)),
    "control": Row(
        ("clone", "read", "stamp"), _controlled, which=lambda given: _CONTROLS[given[1]]
    ),
    "stamp": Row(("stamp",), _one),
    "hardlink": Row(("hardlink",), _made_first),
    "symlink": Row(("symlink",), _made_first),
    "mkdir": Row(("mkdir",), _one),
    "move": Row(("rename",), _pair, 2),
    "rename": Row(("rename",), _renamed, 2),
    **dict.fromkeys(("unlink", "rmdir"), Row(("unlink",), _one)),
}
"""Function of `linker.platforms.windows.Calls` -> its op. `extended` looks at no file."""

WINDOWS = Dialect(ROWS, _where, refusal, {})
