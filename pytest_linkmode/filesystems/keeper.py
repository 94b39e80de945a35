"""Starts a filesystem's daemon and ends it with the run that it serves: a program of its own.

A daemon holds the mount namespace in which it mounts, and so would keep alive the mounts of a run
that was killed; and one that is the last in there waits for itself to unmount, for ever. So it
gets a mount namespace of its own, from which its mount propagates to that of the run, and which
then lets go of everything; and a pid namespace, whose first process waits for the run to end:
when that process goes, for whatever reason, the kernel kills the daemon, however it detached
itself.

``python -I -S keeper.py PIDFD DIRECTORY COMMAND...``: PIDFD is a pidfd (pidfd_open(2), Linux 5.3)
of the run, DIRECTORY a mount below which COMMAND mounts. Prints the id of the waiting process
when the command has succeeded; its exit status is that of the command.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

# <linux/sched.h>, <sys/mount.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_REC_PRIVATE = 16384 | 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def main(watched: int, directory: str, command: list[str]) -> int:
    """Start `command`, and leave a process behind that ends what it left behind."""
    if _libc.unshare(CLONE_NEWNS | CLONE_NEWPID) != 0:
        error = ctypes.get_errno()
        sys.stderr.write(f"unshare mounts and processes: {os.strerror(error)}\n")
        return 1
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(reader)
        _keep(watched, directory, command, writer)
    os.close(writer)
    answer = os.read(reader, 16)
    if answer != b"0":
        return int(answer or b"1")
    sys.stdout.write(f"{keeper}\n")
    return 0


def _keep(watched: int, directory: str, command: list[str], writer: int) -> None:
    """Be the first process of the namespace: everything else in it dies with this one."""
    os.setsid()  # away from the terminal: an interrupt there is not meant for a filesystem
    os.chdir("/")  # bindfs looks for its working directory for ever if that is gone
    status = 1
    try:
        daemon = os.posix_spawnp(command[0], command, os.environ)
        status = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
        # From here on the mounts are the run's alone. The daemon has open what it serves.
        _libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None)
        _libc.umount2(os.fsencode(directory), MNT_DETACH)
    finally:
        os.write(writer, str(abs(status)).encode())
        if status != 0:
            os._exit(1)
    os.close(writer)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    _wait(watched)
    os._exit(0)


def _wait(watched: int) -> None:
    """Wait until the run is gone, or until the daemon is."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            return
        if any(ready == watched for ready, _ in poll.poll()):
            return
        os.read(woken, 64)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
