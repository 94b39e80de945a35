"""Mounts that are attached nowhere: made by one process, and attached by another where it may.

The new mount calls (Linux 5.2) give a mount as a descriptor. Whoever holds the last one and has
not attached it takes the mount along when it goes; so there is no moment in which it could leak.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from contextlib import ExitStack

# <asm/unistd.h>: new calls have one number on every machine; on Alpha it is 110 more.
_OFFSET = 110 if platform.machine() == "alpha" else 0
SYS_MOVE_MOUNT = 429 + _OFFSET
SYS_FSOPEN = 430 + _OFFSET
SYS_FSCONFIG = 431 + _OFFSET
SYS_FSMOUNT = 432 + _OFFSET

# <linux/mount.h>
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOVE_MOUNT_F_EMPTY_PATH = 4

# <fcntl.h>
AT_FDCWD = -100


def make(fstype: str, source: str, options: str) -> int:
    """Return the descriptor of a new mount: no device nodes, no setuid programs. Raises OSError."""
    with ExitStack() as stack:
        context = _call("fsopen", SYS_FSOPEN, fstype.encode(), FSOPEN_CLOEXEC)
        stack.callback(os.close, context)

        def configure(command: int, key: str = "", value: str = "") -> None:
            texts = (text.encode() if text else None for text in (key, value))
            _call("fsconfig", SYS_FSCONFIG, context, command, *texts, 0)

        configure(FSCONFIG_SET_STRING, "source", source)
        for option in filter(None, options.split(",")):
            key, equals, value = option.partition("=")
            configure(FSCONFIG_SET_STRING if equals else FSCONFIG_SET_FLAG, key, value)
        configure(FSCONFIG_CMD_CREATE)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        return _call("fsmount", SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes)


def attach(mount: int, path: str) -> None:
    """Show a mount, given by its descriptor, on the directory `path`. Raises OSError.

    That takes the right to mount in the namespace of this process, and none to make the mount.
    """
    target = os.fsencode(path)
    _call("move_mount", SYS_MOVE_MOUNT, mount, b"", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _call(name: str, number: int, *arguments: int | bytes | None) -> int:
    words = (
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument)
        for argument in arguments
    )
    result = int(_libc().syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result
