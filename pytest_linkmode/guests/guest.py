"""The first process of a guest: it makes the machine ready, and runs one program in it.

The kernel starts it as ``python -I -S guest.py``. What to run comes over the serial line, and what
the program reads and writes goes over it. The root directory is that of the host; a layer in memory
above it takes what is written, so that nothing of the host is ever changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import subprocess
import sys
import termios
import time
from typing import Any

if __name__ == "__main__":
    _HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(os.path.dirname(_HERE)))

from pytest_linkmode import kernel
from pytest_linkmode.guests import wire

LINE = "/dev/ttyS0"
GRACE = 1.0
"""How long the streams of a program that has ended may stay open, in seconds."""
MODULES = "/usr/lib/uml/modules"
NEEDED = {"loop": "drivers/block/loop.ko", "overlay": "fs/overlayfs/overlay.ko"}
"""Modules of the kernel that are loaded, where they are not built in."""

# <asm/unistd.h> of x86_64: there is no User-Mode Linux for anything else but x86.
SYS_PIVOT_ROOT = 155
SYS_FINIT_MODULE = 313

# <linux/reboot.h>
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> None:
    """Run what the other end of the line asks for, and switch the machine off."""
    with contextlib.suppress(OSError):  # where the kernel has not done it itself
        kernel.mount("dev", "/dev", "devtmpfs")
    kernel.mount("proc", "/proc", "proc")
    kernel.mount("sys", "/sys", "sysfs")
    for name in NEEDED:
        load(name)
    writable_root()
    line = raw(os.open(LINE, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    run(wire.Wire(line, line))


def load(name: str) -> None:
    """Load a module, where the kernel has it as one: finit_module(2)."""
    path = os.path.join(MODULES, platform.release(), "kernel", NEEDED[name])
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as module:
        _syscall(SYS_FINIT_MODULE, module.fileno(), b"", 0)


def writable_root() -> None:
    """Take the host's root directory as the lower layer of one that can be written to."""
    base = "/dev/layers"
    os.mkdir(base)
    kernel.mount("layers", base, "tmpfs", data="size=75%,mode=0755")
    upper, work, root = (os.path.join(base, name) for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path, 0o755)
    options = f"lowerdir=/,upperdir={upper},workdir={work},xino=off,redirect_dir=on"
    kernel.mount("root", root, "overlay", data=options)
    os.chdir(root)
    if _syscall(SYS_PIVOT_ROOT, b".", b"./proc") < 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    kernel.unmount("/proc", kernel.MNT_DETACH)
    kernel.mount("proc", "/proc", "proc")
    kernel.mount("sys", "/sys", "sysfs")
    kernel.mount("dev", "/dev", "devtmpfs")
    for path, flags in (("/dev/shm", "mode=1777"), ("/run", "mode=0755")):
        os.makedirs(path, exist_ok=True)
        kernel.mount(os.path.basename(path), path, "tmpfs", data=flags)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1")):
        with contextlib.suppress(FileExistsError):
            os.symlink(target, f"/dev/{name}")


def raw(line: int) -> int:
    """Let a terminal hand every byte through as it is: cfmakeraw(3)."""
    attributes = termios.tcgetattr(line)
    attributes[0] = attributes[1] = attributes[3] = 0
    attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(line, termios.TCSANOW, attributes)
    return line


def run(line: wire.Wire) -> None:
    """Receive an order, run it, and pass on its streams and its exit status."""
    pieces: list[bytes] = []
    ordered: list[bytes] = []
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    line.sinks = {
        wire.ORDER: lambda piece: (pieces if piece else ordered).append(piece),
        wire.INPUT: lambda piece: line.write_to(ours, piece),
    }
    line.send(wire.READY, b"")
    while not ordered:
        if not line.turn():
            return
    order: dict[str, Any] = json.loads(b"".join(pieces))
    try:
        program = subprocess.Popen(
            order["argv"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=order["cwd"],
            env={**order["env"], "PATH": f"{order['env'].get('PATH', '')}:{SYSTEM_PATH}"},
        )
    except OSError as error:
        line.send(wire.ERRORS, f"{order['argv'][0]}: {error}\n".encode())
        line.send(wire.STATUS, b"127")
        while not line.idle and line.turn():
            pass
        return
    os.close(theirs)
    assert program.stdout is not None
    assert program.stderr is not None
    line.read_from(program.stdout.fileno(), wire.OUTPUT)
    line.read_from(program.stderr.fileno(), wire.ERRORS)
    while program.poll() is None:
        # The end of a program closes its streams, and that wakes us.
        if not line.turn(0.5 if line.reads else 0.01):
            return
    # What it had written before it ended may still be in the pipes; a process that it left
    # running may hold them open.
    until = time.monotonic() + GRACE
    while line.reads and time.monotonic() < until and line.turn(0.05):
        pass
    line.send(wire.STATUS, str(program.returncode).encode())
    while not line.idle and line.turn(1):
        pass


def _syscall(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (
        ctypes.c_char_p(each) if isinstance(each, bytes) else ctypes.c_long(each)
        for each in arguments
    )
    return int(libc.syscall(ctypes.c_long(number), *words))


def switch_off() -> None:
    """End the machine: reboot(2)."""
    ctypes.CDLL(None).reboot(ctypes.c_uint(LINUX_REBOOT_CMD_POWER_OFF))


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001  # nobody is above the first process
        import traceback

        traceback.print_exc()  # to the console, which the host keeps
    finally:
        switch_off()
