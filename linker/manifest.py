r"""What a package holds: path -> digest and exec bit, and nothing that could lead out of a target.

A manifest comes from elsewhere: it is data to be distrusted. One that names a way out (``..``, an
absolute path, a drive), a name that is two things, or two names that some target would take for
one cannot be made: whoever has a `Manifest` may link it anywhere.

As JSON, which `Manifest.loads` and `dumps` speak::

    {
     "format": "linker-manifest",
     "version": 1,
     "files": {
      "package/module.py": {"digest": "sha256-e3b0c442...", "executable": false}
     },
     "directories": ["package/empty"]
    }

Paths are relative, their components separated by slashes; bytes that are no UTF-8 are lone
surrogates (``\udc80`` to ``\udcff``), as everywhere in Python. A digest is ``sha256-`` or
``sha512-`` and hexadecimal in lower case. ``executable`` may be missing, which is false;
``directories``, which are those that hold nothing, may be missing too. Nothing else may be there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat as st
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from linker.failures import printable
from linker.inputs import check_paths
from linker.journal import RESERVED
from linker.report import LinkError
from linker.tree import StrPath, fold, text_of

FORMAT: Final = "linker-manifest"
VERSION: Final = 1
"""Of the JSON below; another one is refused."""

ALGORITHMS: Final[Mapping[str, int]] = {"sha256": 64, "sha512": 128}
"""Digests that a manifest may use, and how many hexadecimal digits they have."""

_DIGEST = re.compile("|".join(f"{name}-[0-9a-f]{{{size}}}" for name, size in ALGORITHMS.items()))
_TWICE = "it is there twice"
_NO_FILE = "it is no file"
_READABLE = "name a file that `python -m linker add --manifest FILE` has written"
_WRITABLE = "name a file in a directory that this user may write to"

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""Opening a fifo waits for who writes into it, for ever if there is nobody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``ALGORITHM-HEX`` of its content, and whether it may be executed."""

    digest: str
    executable: bool = False


class Branch:
    """One directory of a manifest."""

    __slots__ = ("directories", "files")

    def __init__(self) -> None:
        self.directories: dict[str, Branch] = {}
        self.files: dict[str, Entry] = {}


@dataclass(frozen=True)
class Manifest:
    """What a package holds.

    `files` maps paths, whose components are separated by slashes, to what they are; `directories`
    are those that hold nothing. `top` is the same as a tree.

    Raises `LinkError` for anything that must not be linked.
    """

    files: Mapping[str, Entry]
    directories: tuple[str, ...] = ()
    top: Branch = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "directories", tuple(sorted(set(self.directories))))
        object.__setattr__(self, "top", _planted(self.files, self.directories))

    @classmethod
    def loads(cls, text: str | bytes) -> Manifest:
        """Return the manifest that a JSON text holds. Raises `LinkError`."""
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise _malformed(str(error)) from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise _malformed(f'it has no "format": "{FORMAT}"')
        if found.get("version") != VERSION:
            raise _malformed(
                f"it is of version {found.get('version')!r}, and this linker knows version "
                f"{VERSION}"
            )
        _only(found, ("format", "version", "files", "directories"), "a manifest")
        files, directories = found.get("files"), found.get("directories", [])
        if not isinstance(files, dict):
            raise _malformed('"files" is no object')
        if not isinstance(directories, list):
            raise _malformed('"directories" is no list')
        if not all(isinstance(path, str) for path in directories):
            raise _malformed('"directories" holds something that is no path')
        if len(set(directories)) != len(directories):
            raise _refused(_second(directories), _TWICE)
        return cls({path: _entry(path, facts) for path, facts in files.items()}, (*directories,))

    def dumps(self) -> str:
        """Return the manifest as JSON, always the same for the same content."""
        files = {
            path: {"digest": entry.digest, "executable": entry.executable}
            for path, entry in sorted(self.files.items())
        }
        document = {
            "format": FORMAT,
            "version": VERSION,
            "files": files,
            "directories": list(self.directories),
        }
        return json.dumps(document, indent=1) + "\n"

    def write(self, path: StrPath) -> None:
        """Make a file of it, whole or not at all; one that is there keeps its permission bits.

        Raises `LinkError`.
        """
        name = text_of(path)
        with _telling(name):
            real, draft = _ways_to(name)
            try:
                with open(draft, "x", encoding="ascii") as file:
                    with contextlib.suppress(FileNotFoundError):
                        os.chmod(draft, os.stat(real).st_mode & 0o777)
                    file.write(self.dumps())
                os.replace(draft, real)
            except BaseException:
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    os.unlink(draft)
                raise

    @staticmethod
    def check_writable(path: StrPath) -> None:
        """Raise `LinkError` where a manifest cannot be written, as far as that shows before: its
        directory takes no file, or something has the name that is none. What is there stays.
        """
        name = text_of(path)
        with _telling(name):
            _, draft = _ways_to(name)
            try:
                with open(draft, "x", encoding="ascii"):
                    return
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft)

    @classmethod
    def read(cls, path: StrPath) -> Manifest:
        """Return the manifest in a file, or in a pipe that somebody writes into.

        Raises `LinkError`.
        """
        name = text_of(path)
        check_paths(manifest=name)
        with (
            _telling(name, "read", _READABLE),
            open(name, "rb", opener=_open) as file,
        ):
            kind = os.fstat(file.fileno()).st_mode
            if _NONBLOCK and st.S_ISFIFO(kind):
                os.set_blocking(file.fileno(), True)
            elif not st.S_ISREG(kind):
                raise OSError(errno.EINVAL, _NO_FILE)
            text = file.read()
        try:
            return cls.loads(text)
        except LinkError as error:
            error.what, error.path = f"{printable(name)}: {error.what}", error.path or name
            raise


def _ways_to(name: str) -> tuple[str, str]:
    """Return where a manifest is to be, and a name for it beside that until it is whole.

    Raises OSError for a name that nothing can have, or that something has which is no file.
    """
    check_paths(manifest=name)
    real = os.path.realpath(name)  # a symlink stays one
    with contextlib.suppress(FileNotFoundError):
        if not st.S_ISREG(os.lstat(real).st_mode):  # a device would be one no more
            raise OSError(errno.EINVAL, _NO_FILE)
    return real, os.path.join(os.path.dirname(real), f".manifest-{secrets.token_hex(4)}")


@contextlib.contextmanager
def _telling(name: str, verb: str = "write", hint: str = _WRITABLE) -> Iterator[None]:
    """Tell of a call that failed."""
    try:
        yield
    except OSError as error:
        what = f"cannot {verb} the manifest {printable(name)}"
        raise LinkError(what, why=str(error.strerror), hint=hint, path=name) from error


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NONBLOCK)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, in which no name may come twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refused(_second([name for name, _ in pairs]), _TWICE)
    return found


def _second(names: Iterable[str]) -> str:
    """Return the first name that is there twice."""
    return next(name for name, times in Counter(names).items() if times > 1)


def _entry(path: str, facts: object) -> Entry:
    if not isinstance(facts, dict):
        raise _refused(path, "what is said of it is no object")
    _only(facts, ("digest", "executable"), f"what is said of {path!r}")
    digest, executable = facts.get("digest", ""), facts.get("executable", False)
    if not isinstance(digest, str):
        raise _refused(path, f"{digest!r} is no digest")
    if not isinstance(executable, bool):
        raise _refused(path, f'"executable" is {executable!r}, neither true nor false')
    return Entry(digest, executable)


def _only(found: Mapping[str, object], known: Iterable[str], where: str) -> None:
    """Refuse what nobody would heed: a typing error must not cost a file its exec bit."""
    unknown = sorted(found.keys() - set(known))
    if unknown:
        raise _malformed(f"{unknown[0]!r} means nothing in {where}")


def _planted(files: Mapping[str, Entry], directories: Iterable[str]) -> Branch:
    """Return the tree that paths span, or raise `LinkError` for what can be no tree."""
    top = Branch()
    folded: dict[int, dict[str, str]] = {id(top): {}}
    for path, entry in files.items():
        given: tuple[object, object] = (path, entry)
        if not isinstance(given[0], str) or not isinstance(given[1], Entry):
            raise _refused(str(path), f"{entry!r} does not say what it is", "give an Entry")
        *above, name = _parts(path)
        branch = _descend(top, above, folded, path)
        _check_entry(path, entry)
        _take_name(branch, name, folded, path)
        branch.files[name] = entry
    for path in directories:
        _descend(top, _parts(path), folded, path)
    return top


def _descend(top: Branch, names: list[str], folded: dict[int, dict[str, str]], path: str) -> Branch:
    branch = top
    for name in names:
        found = branch.directories.get(name)
        if found is None:
            _take_name(branch, name, folded, path)
            found = branch.directories[name] = Branch()
            folded[id(found)] = {}
        branch = found
    return branch


def _take_name(branch: Branch, name: str, folded: dict[int, dict[str, str]], path: str) -> None:
    """Give `name` a place in a directory, in which nothing else may have it."""
    other = folded[id(branch)].setdefault(fold(name.rstrip(" .")), name)
    if name in branch.files or name in branch.directories:
        raise _refused(path, f"{name!r} would be a file and a directory")
    if other != name:
        raise _refused(
            path,
            f"{other!r} and {name!r} are one name to a target that does not "
            "tell upper from lower case, or one spelling in Unicode from another",
            "rename one of them",
        )


def _check_entry(path: str, entry: Entry) -> None:
    if not _DIGEST.fullmatch(entry.digest):
        raise _refused(
            path,
            f"{entry.digest!r} is no digest" if entry.digest else "it has no digest",
            "write it as sha256-HEX or sha512-HEX, in lower case",
        )


def _parts(path: str) -> list[str]:
    """Return the components of a path, or raise `LinkError` if it could lead anywhere else."""
    if not path:
        raise _refused(path, "it is no path")
    if path.startswith("/"):
        raise _refused(path, "the path is absolute")
    if "\0" in path:
        raise _refused(path, "no name can hold a NUL")
    if "\\" in path:
        raise _refused(path, "a backslash separates names on Windows", "separate names by slashes")
    try:
        plain = os.fsdecode(os.fsencode(path))
    except UnicodeEncodeError:
        raise _refused(path, "it cannot be the name of a file") from None
    if plain != path:
        raise _refused(path, f"its bytes are those of {plain!r}", "write them as that")
    parts = path.split("/")
    for part in parts:
        wrong = _wrong_with(part)
        if wrong:
            raise _refused(path, wrong)
    return parts


def _wrong_with(part: str) -> str:
    if not part:
        return "a component of it is empty"
    if part == "..":
        return "'..' leads out of the target"
    if part == ".":
        return "'.' is no name"
    if not part.strip(" ."):
        return f"Windows takes {part!r} for no name, or for '..'"
    if part[1:2] == ":":
        return f"{part[:2]!r} is a drive on Windows"
    if part.startswith(RESERVED):
        return f"names that begin with {RESERVED!r} are reserved for interrupted links"
    return ""


def _refused(path: str, why: str, hint: str = "") -> LinkError:
    hint = hint or "name each file once, by its path below the target, and what it is"
    return LinkError(f"the manifest must not name {path!r}", why=why, hint=hint, path=path)


def _malformed(why: str) -> LinkError:
    return LinkError(
        "this is no manifest", why=why, hint="`python -m linker add` makes one from a directory"
    )
