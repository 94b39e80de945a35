"""What a processor keeps for each process, where the kernel of a guest knows of less.

A `linux.uml` such as that of Debian 12 (6.1.176) has room for 2,696 bytes of registers, all that
there was before AMX; with it there are 11,008. Linux takes back all or nothing (xstateregs_set of
arch/x86/kernel/fpu/regset.c), and the guest panics before its first program: "ptrace set fp regs
failed, errno = 14". So what it hands back is completed on the way (`xstate.c`): nothing of AMX is
ever used in a guest, whose kernel has no call to ask for it (arch_prctl(2)).
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile

from pytest_linkmode import processes

COMPILER = "cc"
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "xstate.c")
CPUINFO = "/proc/cpuinfo"
FLAG = b"amx_tile"
_FIRST = 1 << 14
"""Of a file that grows with the processors, so much holds what is said of the first."""


@functools.cache
def is_large() -> bool:
    """Return whether this machine's processor keeps more than such a kernel knows of."""
    with contextlib.suppress(OSError), open(CPUINFO, "rb") as file:
        for line in file.read(_FIRST).splitlines():
            name, _, flags = line.partition(b":")
            if name.strip() == b"flags":
                return FLAG in flags.split()
    return False


def interposer() -> int:
    """Compile what completes the state; return a descriptor of it, to be preloaded.

    Raises CommandFailed, and OSError where there is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="linkmode-") as directory:
        made = os.path.join(directory, "xstate.so")
        processes.run((COMPILER, "-O2", "-shared", "-fPIC", "-nostdlib", "-o", made, SOURCE))
        with open(made, "rb") as file:
            content = file.read()
    descriptor = os.memfd_create("xstate.so")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor
