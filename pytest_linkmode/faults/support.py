"""What this system allows: why programs cannot have faults here, in words that help."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.faults import ops

STAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "filter": {
        errno.EBUSY: (
            "another supervisor listens to this process already: the kernel allows one",
            "run without it (a sandbox, or a container that is supervised by user notification)",
        ),
        errno.EINVAL: (
            "the kernel does not know SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "use Linux 5.19 or later, or results=True, which traces and needs 5.3",
        ),
        errno.ENOSYS: (
            "seccomp(2) is closed or not built in",
            "use a kernel with CONFIG_SECCOMP_FILTER, outside of a container that closes it",
        ),
        errno.EPERM: (
            "the container forbids seccomp(2)",
            "start the container with a profile that allows seccomp",
        ),
        errno.EACCES: (
            "the container forbids seccomp(2)",
            "start the container with a profile that allows seccomp",
        ),
    },
    "trace": {
        errno.EPERM: (
            "this process may not be traced (a container, Yama, or a tracer that is there already)",
            "set kernel.yama.ptrace_scope to 0 or 1, allow ptrace in the container's profile, or "
            "do without results, serial, SHORT and kill-after",
        ),
    },
}
"""stage and error -> (why, what mends it)."""


def refusal(stage: str, number: int, program: str) -> OSError | LinkmodeError:
    """Return the error for a step between fork and exec that did not work."""
    if stage in ("exec", "chdir"):
        return OSError(number, os.strerror(number), program if stage == "exec" else "cwd")
    name = errno.errorcode.get(number, str(number))
    why, mend = STAGES.get(stage, {}).get(number, (os.strerror(number), ""))
    return Unavailable(
        "faults in programs",
        why=why,
        checked=(f"{TRIED[stage]}: {name}",),
        mends=(mend,) if mend else (),
    )


TRIED = {
    "privileges": "prctl(PR_SET_NO_NEW_PRIVS)",
    "filter": "seccomp(SECCOMP_SET_MODE_FILTER) in the program's process",
    "trace": "ptrace(PTRACE_SEIZE) of the program's process",
}


def unavailable() -> Unavailable | None:
    """Return why programs cannot be run with faults here, as far as looking can tell."""
    what = "faults in programs"
    if not hasattr(os, "uname") or os.uname().sysname != "Linux":
        return Unavailable(
            what,
            why="they are made by seccomp, which is Linux's",
            checked=("the operating system",),
            mends=("use faults in process, which work everywhere",),
        )
    if ops.architecture() is None:
        known = ", ".join(ops.ARCHITECTURES)
        return Unavailable(
            what,
            why=f"the numbers of system calls are known for {known} only",
            checked=(f"`uname -m`: {os.uname().machine}",),
        )
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as actions:
            available = actions.read().split()
    except OSError:
        return None  # /proc may be hidden; the attempt will tell
    if not {"errno", "trace", "user_notif"} <= set(available):
        return Unavailable(
            what,
            why="this kernel has no user notification",
            checked=(f"/proc/sys/kernel/seccomp/actions_avail: {' '.join(available)}",),
            mends=("use Linux 5.19 or later with CONFIG_SECCOMP_FILTER",),
        )
    return None
