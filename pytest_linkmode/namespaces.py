"""The private place in which mounts live, so that nothing outlives a `kill -9`.

A process of ours takes a mount namespace of its own, makes everything in it private, and
mounts a tmpfs over one stable directory. All mounts lie below it: when the last process of the
namespace is gone, however it went, the kernel removes them, and an outsider never saw more
than an empty directory. An ordinary user takes a user namespace first, in which the right to
mount can be had. Where the kernel forbids that, the same directory serves in the host's
namespace, and the registry remembers what must be undone.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import stat
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pytest_linkmode import HERE, kernel, privileges, systems
from pytest_linkmode.errors import LinkmodeError, Unavailable

VARIABLE = "LINKMODE_PLACE"
"""KIND:PID:TOKEN:PATH of the place that a process hands to its children."""

PRIVATE = "private"
HOST = "host"
AUTO = "auto"

OF_A_GUEST = "/dev/shm"
"""A directory of a guest in which the host has nothing, and everybody may write."""

SOURCE = "linkmode-"
"""What mountinfo calls our tmpfs, followed by a token: how a child knows it again."""


@dataclass(frozen=True)
class Place:
    """A directory below which everything is made.

    `kind` is ``private`` (a tmpfs of ours, in a mount namespace of ours) or ``host``. `note`
    says what a person should know, such as threads that stay outside. `user` tells that the
    right to mount is that of a user namespace: of tmpfs, overlay and bind, and of nothing else.
    """

    path: str
    kind: str
    note: str = ""
    user: bool = False

    @property
    def private(self) -> bool:
        """Whether whatever is mounted here goes away with its last process."""
        return self.kind == PRIVATE


@dataclass(frozen=True)
class Refusal:
    """Why there can be no private mount namespace: the step, and the name of the error."""

    step: str
    error: str
    privileged: bool

    def __str__(self) -> str:
        return f"{self.step}: {self.error}"

    def unavailable(self) -> Unavailable:
        """Return the error that says so to a person."""
        return Unavailable(
            "a private mount namespace cannot be had here",
            why=str(self),
            checked=self.checked,
            mends=[
                *self.mends,
                "use the namespace of the host: --linkmode-namespace=host",
            ],
        )

    @property
    def checked(self) -> tuple[str, ...]:
        """What was looked at, in sentences."""
        return (
            "the right to mount (CAP_SYS_ADMIN): " + ("there" if self.privileged else "missing"),
            f"a child process tried it: {self}",
        )

    @property
    def mends(self) -> tuple[str, ...]:
        """What gives this process the right to mount."""
        return (*mount_mends(), *(() if self.privileged else user_namespace_mends(self.step)))


def mount_mends() -> tuple[str, ...]:
    """Return what gives a process of this machine the right to mount."""
    if HERE != "linux":
        return systems.mends(("linux",))
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        who = "" if os.geteuid() == 0 else ", as root"
        return (f"run the container with --privileged{who}",)
    return ("run as root: sudo --preserve-env=PATH pytest ...",)


RESTART = "start it alone in its namespace: linkmode run -- pytest ..."
"""What helps where this process cannot go in any more."""

SYSCTL = "/proc/sys"
SWITCHES: Mapping[str, tuple[str, str]] = {
    "kernel/unprivileged_userns_clone": ("0", "1"),  # Debian before 11, Arch's hardened kernel
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),  # Ubuntu from 23.10 on
    "user/max_user_namespaces": ("0", "10000"),
}
"""What keeps ordinary users from user namespaces -> the value that does, and one that does not."""


def user_namespace_mends(step: str = "") -> tuple[str, ...]:
    """Return what lets an ordinary user have a user namespace, where `step` was refused."""
    if step == THREADS:
        return (RESTART,)
    mends = []
    for switch, (off, on) in SWITCHES.items():
        with suppress(OSError), open(os.path.join(SYSCTL, switch), "rb") as value:
            if value.read().strip() == off.encode():
                mends.append(f"sysctl -w {switch.replace('/', '.')}={on}")
    return tuple(mends)


def user_name() -> str:
    """Return the name of the effective user, or the number where there is no name."""
    if HERE == "win32":
        import getpass

        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def own_path(name: str) -> str:
    """Return `<tmp>/NAME-of-USER`, where a directory of this user lies that is found again.

    A guest sees the host's temporary directory, and in it what another user of the same name
    has there: root. It has a directory of its own instead.
    """
    import tempfile

    temporary = OF_A_GUEST if privileges.in_guest() else os.path.realpath(tempfile.gettempdir())
    return os.path.join(temporary, f"{name}-of-{user_name()}")


def own_directory(name: str, mode: int) -> str:
    """Return the directory of `own_path`, made if need be, and surely ours.

    Raises LinkmodeError if somebody else was there first: in a directory that everybody may
    write to, a name that can be guessed may be a trap.
    """
    path = own_path(name)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    else:
        os.chmod(path, mode)  # whatever the umask
    found = os.lstat(path)
    # On Windows the temporary directory is the user's own.
    ours = HERE == "win32" or found.st_uid == os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or not ours:
        raise LinkmodeError(
            f"{path} is not a directory of this user",
            hint="remove it, or set TMPDIR to a directory of your own",
        )
    return path


def stable_directory() -> str:
    """Return the directory over which the private tmpfs is mounted."""
    return own_directory("pytest-linkmode", 0o755)


def try_private(*, user: bool = False) -> Refusal | None:
    """Return why a private place is refused, or None. A child process tries, this one stays.

    Trying it here could leave us stuck halfway: some kernels create a namespace and refuse
    what is asked for next (Ubuntu 24.04). Whoever cannot mount tries it in a user namespace,
    and so does root with `user`.
    """
    if HERE != "linux":
        return Refusal("start", f"no namespaces on {HERE}", privileged=False)
    if threading.get_native_id() != os.getpid():
        # unshare(2) moves the calling thread only: everything else would stay outside.
        return Refusal("start", "this is not the main thread", kernel.may_mount())
    user = user or not kernel.may_mount()
    if user and _other_threads():
        # unshare(2): EINVAL. The child that tries has one thread, and would get through.
        return Refusal(THREADS, _threads(_other_threads()), privileged=False)
    directory = stable_directory()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python >= 3.12 warns of fork where there are threads. The child makes a few system
        # calls and ends without running anything of Python's or pytest's.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _try_and_exit(directory, writer, user=user)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read().decode()
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except ChildProcessError:  # SIGCHLD is ignored here: the answer alone counts
        status = 0
    if status < 0:
        step, error = answer or "start", signal.Signals(-status).name
    elif answer == _DONE:
        return None
    else:
        step, _, error = answer.partition("\n")
    return Refusal(step, error or "no answer", kernel.may_mount())


def enter_private(*, user: bool = False) -> Place:
    """Move this process, once and for all, into a private place, and return it.

    Children inherit it, and know by the environment variable LINKMODE_PLACE. Raises
    LinkmodeError if this process is inside already, OSError if the kernel refuses
    (`try_private` tells beforehand). Threads that exist already stay outside; the place's
    note says so. Who cannot mount, and root with `user`, enters a user namespace as well,
    which takes a process without other threads.
    """
    if _places.get(PRIVATE) or _inherited():
        raise LinkmodeError("this process is in a private mount namespace already")
    directory = stable_directory()
    token = os.urandom(8).hex()
    threads = _other_threads()
    user = user or not kernel.may_mount()
    for _, step in _steps(directory, token, user=user):
        step()
    note = f"{_threads(threads)} that ran before stay outside of it" if threads else ""
    return _hand_down(Place(directory, PRIVATE, note, user=user), token)


def find_place(namespace: str = AUTO, *, user: bool = False) -> Place:
    """Return the place of this process: the one it has or inherited, else a new one.

    `namespace` is ``private``, ``host``, or ``auto``: private where the kernel allows it. With
    `user` root, too, takes a user namespace. Raises Unavailable if a private place is asked for
    and refused.
    """
    for kind in (PRIVATE, HOST) if namespace == AUTO else (namespace,):
        known = _places.get(kind)
        if known:
            return known
    inherited = _inherited()
    if inherited and namespace in (AUTO, inherited.kind):
        _places[inherited.kind] = inherited
        return inherited
    refusal = None
    if namespace == PRIVATE or (namespace != HOST and HERE == "linux"):
        refusal = try_private(user=True) if user else try_private()
        if refusal is None:
            return enter_private(user=user)
        if namespace == PRIVATE:
            raise refusal.unavailable()
    note = f"no private mount namespace ({refusal})" if refusal else ""
    if refusal and refusal.step == THREADS:
        note += f"; to have one, {RESTART}"
    return _hand_down(Place(stable_directory(), HOST, note), "-")


def missing_right(namespace: str = AUTO) -> Unavailable | None:
    """Return why nothing can be mounted here, or None where that is allowed, or would be.

    It would be where a private place can be entered, which this process will do before it
    mounts anything.
    """
    if HERE != "linux":
        return Unavailable("mounts", checked=[f"mounts of our own: not on {systems.name_of(HERE)}"])
    if kernel.may_mount():
        return None
    if namespace == HOST or _places.get(HOST):
        checked = "the right to mount in the namespace of the host (CAP_SYS_ADMIN): missing"
        return Unavailable("mounts", checked=[checked], mends=mount_mends())
    refusal = _tried(os.getpid(), _other_threads())
    if refusal is None:
        return None
    return Unavailable("mounts", checked=refusal.checked, mends=refusal.mends)


@functools.lru_cache(maxsize=4)
def _tried(pid: int, threads: int) -> Refusal | None:
    """Try it once for each state in which the answer may differ."""
    del pid, threads
    return try_private()


THREADS = "unshare the user namespace of a process with other threads"
_DONE = "done"
_places: dict[str, Place] = {}
"""The places of this process by kind; a forked child is inside as well."""


def _steps(directory: str, token: str, *, user: bool) -> tuple[tuple[str, Callable[[], None]], ...]:
    everything = kernel.MS_REC | kernel.MS_PRIVATE
    steps = _common_steps(directory, token, everything)
    if not user:
        return (("unshare the mount namespace", lambda: kernel.unshare(kernel.CLONE_NEWNS)), *steps)
    uid, gid = os.geteuid(), os.getegid()
    flags = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS
    return (
        ("unshare the user and mount namespaces", lambda: kernel.unshare(flags)),
        ("map the user to itself", lambda: privileges.map_to_itself(uid, gid)),
        *steps,
        ("keep the right to mount", privileges.settle),
    )


def _common_steps(
    directory: str, token: str, everything: int
) -> tuple[tuple[str, Callable[[], None]], ...]:
    return (
        # Otherwise our mounts would travel to the host where its / is shared, as systemd has it.
        ("make / private", lambda: kernel.mount("none", "/", "", everything)),
        (
            "mount a tmpfs",
            # Not nodev: loop devices may have to be made there (containers).
            lambda: kernel.mount(SOURCE + token, directory, "tmpfs", kernel.MS_NOSUID, "mode=0755"),
        ),
    )


def _other_threads() -> int:
    return len(os.listdir("/proc/self/task")) - 1


def _threads(number: int) -> str:
    return f"{number} thread{'s'[: number > 1]}"


def _try_and_exit(directory: str, writer: int, *, user: bool) -> None:
    name = "start"
    try:
        for following, step in _steps(directory, "trial", user=user):
            name = following
            step()
        os.write(writer, _DONE.encode())
    except OSError as error:
        os.write(writer, f"{name}\n{errno.errorcode.get(error.errno or 0, error)}".encode())
    finally:
        os._exit(0)


def _hand_down(place: Place, token: str) -> Place:
    _places[place.kind] = place
    os.environ[VARIABLE] = f"{place.kind}:{os.getpid()}:{token}:{place.path}"
    return place


def _inherited() -> Place | None:
    """Return the place that the parent left us in, after looking whether it is true.

    A variable alone proves nothing: it survives in shells, and in processes started elsewhere.
    """
    kind, _, rest = os.environ.get(VARIABLE, "").partition(":")
    _, _, rest = rest.partition(":")
    token, _, path = rest.partition(":")
    if HERE != "linux" or not path:
        return None
    if kind == PRIVATE:
        found = kernel.mount_at(path)
        if not found or found.source != SOURCE + token:
            return None
        privileges.settle()
        return Place(path, PRIVATE, user=privileges.in_user_namespace())
    if kind == HOST and os.path.isdir(path) and os.stat(path).st_uid == os.geteuid():
        return Place(path, HOST)
    return None
