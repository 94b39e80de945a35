"""Real wheels from the package index, unpacked once into the tree that the main job links.

The wheels are data, never imported: the same files of one platform and one Python are used on
every machine, so that counts and times compare. Each is pinned with its hash in wheels.txt; what
lies in the cache with that hash is not asked for again, so that a second run needs no network.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scripts.calling import call, ending

PINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheels.txt")

QUICK = ("asgiref", "mpmath", "sqlparse")
"""The small ones, for a look at the machine in seconds."""

PLATFORM = (
    *("--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_27_x86_64"),
    *("--python-version=3.11", "--implementation=cp", "--abi=cp311"),
)
"""Whose wheels are taken, on every machine."""


DIRECTORY_TIME = calendar.timegm((2024, 2, 29, 12, 30, 58))
"""The modification time of all directories: of even seconds, as archives keep those of files.

The coarsest filesystems keep that too, so that a time which is not the source's is an error there
as well.
"""

LAYING = "2"
"""The version of how a tree is laid: another one is another tree, made anew."""


class WheelsError(Exception):
    """The wheels cannot be had, or are not what they should be."""


@dataclass(frozen=True)
class Pin:
    """One wheel: its project, its version, and the SHA-256 of its file."""

    project: str
    version: str
    digest: str

    @property
    def requirement(self) -> str:
        """The line that asks pip for exactly this file."""
        return f"{self.project}=={self.version} --hash=sha256:{self.digest}"


@dataclass(frozen=True)
class Tree:
    """A directory of unpacked wheels, and what it holds."""

    path: str
    wheels: tuple[str, ...]
    files: int
    directories: int
    bytes: int


_PIN = re.compile(r"(?P<project>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<digest>[0-9a-f]{64})")


def parse_pins(text: str) -> tuple[Pin, ...]:
    """Read the lines of wheels.txt; raises WheelsError for a line that is not a pin."""
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition(" #")[0].strip()
        if not content or content.startswith("#"):
            continue
        match = _PIN.fullmatch(content)
        if match is None:
            raise WheelsError(
                f"wheels.txt, line {number}: expected PROJECT==VERSION --hash=sha256:DIGEST"
            )
        pins.append(Pin(**match.groupdict()))
    return tuple(pins)


@dataclass(frozen=True)
class Form:
    """What kind of file the package index is asked for, and what pip must be told for that."""

    name: str
    ending: str
    options: tuple[str, ...]


WHEELS = Form("wheels", ".whl", ("--only-binary=:all:", *PLATFORM))
SDISTS = Form("source distributions", ".tar.gz", ("--no-binary=:all:",))


def read_pins(*, quick: bool = False, path: str = PINS) -> tuple[Pin, ...]:
    """Return the pins of a file, or only the small ones of the main job."""
    with open(path, encoding="utf-8") as file:
        pins = parse_pins(file.read())
    return tuple(pin for pin in pins if pin.project in QUICK) if quick else pins


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_wheels(
    directory: str, pins: Sequence[Pin], form: Form = WHEELS
) -> tuple[Mapping[Pin, str], tuple[Pin, ...]]:
    """Return where the files lie that are in `directory` already, and which are missing.

    A file counts if its hash is right, whatever its name; a half-downloaded one does not.
    """
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    wheels = [os.path.join(directory, name) for name in names if name.endswith(form.ending)]
    by_digest = {_digest(path): path for path in wheels}
    found = {pin: by_digest[pin.digest] for pin in pins if pin.digest in by_digest}
    return found, tuple(pin for pin in pins if pin not in found)


def download(directory: str, pins: Sequence[Pin], form: Form = WHEELS) -> None:
    """Get the files of `pins` from the package index; raises WheelsError with pip's words."""
    os.makedirs(directory, exist_ok=True)
    asked = os.path.join(directory, "asked.txt")
    with open(asked, "w", encoding="utf-8") as file:
        file.writelines(pin.requirement + "\n" for pin in pins)
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
        *("--require-hashes", "--no-deps", *form.options),
        *("--dest", directory, "--requirement", asked),
    ]
    status, said = call(command, patience=1800)
    os.unlink(asked)
    if status != 0:
        raise WheelsError(
            f"pip could not get {', '.join(pin.project for pin in pins)}{ending(status)}:\n{said}\n"
            f"The first run needs the package index. Without one, put the {form.name} with these "
            f"hashes into {directory} yourself."
        )


def ensure_wheels(
    directory: str, pins: Sequence[Pin], say: Callable[[str], None], form: Form = WHEELS
) -> list[str]:
    """Return the paths of the files of `pins`, after getting those that are missing."""
    found, missing = find_wheels(directory, pins, form)
    if missing:
        names = ", ".join(pin.project for pin in missing)
        say(f"getting {len(missing)} {form.name} from the package index: {names}")
        download(directory, missing, form)
        found, missing = find_wheels(directory, pins, form)
    if missing:
        raise WheelsError(f"pip succeeded, but {missing[0].requirement} is not in {directory}")
    return [found[pin] for pin in pins]


def _mode_of(entry: zipfile.ZipInfo) -> int:
    """Return the permission bits that an entry carries; archives of other systems carry none."""
    return stat.S_IMODE(entry.external_attr >> 16) & 0o777 or 0o644


def _time_of(entry: zipfile.ZipInfo) -> int:
    return calendar.timegm(entry.date_time)


def unpack(wheels: Iterable[str], directory: str) -> None:
    """Unpack `wheels` into `directory`, keeping permission bits and modification times.

    Raises WheelsError where an entry would leave the directory or meet one that is there.
    """
    made: set[str] = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                parts = entry.filename.split("/")
                if entry.filename.startswith("/") or ".." in parts or "\0" in entry.filename:
                    raise WheelsError(f"{wheel}: {entry.filename!r} would leave the tree")
                if entry.is_dir():
                    continue
                path = os.path.join(directory, *parts)
                parent = os.path.dirname(path)
                if parent not in made:
                    os.makedirs(parent, exist_ok=True)
                    made.add(parent)
                try:
                    with archive.open(entry) as content, open(path, "xb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
                except FileExistsError:
                    raise WheelsError(f"{wheel}: {entry.filename!r} is there already") from None
                os.chmod(path, _mode_of(entry))
                os.utime(path, (_time_of(entry), _time_of(entry)))
    for where, _, _ in os.walk(directory, topdown=False):
        os.utime(where, (DIRECTORY_TIME, DIRECTORY_TIME))


def measure(path: str) -> tuple[int, int, int]:
    """Return how many files and directories lie below `path`, and the bytes of the files."""
    files = directories = size = 0
    for where, names_of_directories, names in os.walk(path):
        directories += len(names_of_directories)
        files += len(names)
        size += sum(os.lstat(os.path.join(where, name)).st_size for name in names)
    return files, directories, size


def ensure_tree(directory: str, wheels: Sequence[str], pins: Sequence[Pin]) -> Tree:
    """Return the tree of `wheels`, unpacked below `directory` now or by an earlier run.

    It gets its name only when it is whole, and the name holds the pins: other pins, another tree.
    """
    lines = "\n".join([LAYING, *(pin.requirement for pin in pins)])
    name = "tree-" + hashlib.sha256(lines.encode()).hexdigest()[:12]
    path = os.path.join(directory, name)
    if not os.path.isdir(path):
        part = f"{path}.part-{os.getpid()}"
        os.makedirs(part)
        try:
            unpack(wheels, part)
            os.rename(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    files, directories, size = measure(path)
    titles = tuple(f"{pin.project} {pin.version}" for pin in pins)
    return Tree(path, titles, files, directories, size)
