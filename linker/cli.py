"""``python -m linker SOURCE TARGET``: the reference linker for shells.

What was done goes to stdout, in words or as JSON. What was done otherwise than asked goes to
stderr, one line for each edge of the policy that was taken, with the mode that was asked for and
the mode that the files really ended in. `linkmode link` and `linkmode add` are the same commands.
"""

from __future__ import annotations

import enum
import errno
import os
import sys
import time
from collections.abc import Iterable, Sequence

from linker import HERE
from linker.arguments import MOST, read_plainly, tell_parser
from linker.failures import printable
from linker.light import TYPE_CHECKING
from linker.modes import Existing, LinkMode
from linker.platforms import current
from linker.policies import ALL
from linker.report import LinkError, LinkReport, Transition

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace
    from typing import Any, TextIO

    from linker.conditions import Scope
    from linker.manifest import Manifest

    Arguments = argparse.Namespace | SimpleNamespace


class Status(enum.IntEnum):
    """Exit statuses; negative answers to questions are 1 throughout."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    LEFT = 3
    UNTOLD = 4
    INTERRUPTED = 130


STATUSES = """\
exit status:
  0    linked, as asked or with the fallbacks that were told
  1    failed: the target is as it was
  2    wrong usage: nothing was done
  3    failed, and the names told as "could not be undone" remain
  4    linked, but the report could not be written
  130  interrupted: what had been done was undone
"""

STATUSES_OF_ADDING = """\
exit status:
  0    added, and the manifest was written
  1    failed: what was added by then stays, each file whole
  2    wrong usage: nothing was done
  4    added, but the manifest could not be written to stdout
  130  interrupted
"""

DESCRIPTION = """\
Link the tree below the directory SOURCE into the directory TARGET, which is
merged into if it exists. With --store, SOURCE is a manifest ('-' reads it from
stdin) that names files of the store. `add` puts the files of a directory into
a store, and prints their manifest. (A directory called 'add' is './add'.)
"""


# --- what can be said on the command line -------------------------------------------------------


def configure_link(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of linking, and what to run with them."""
    tell_parser(parser)
    parser.set_defaults(run=_link, parser=parser)


def configure_add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of adding to a store, and what to run with them."""
    parser.add_argument("source", metavar="SOURCE", help="a directory of files")
    parser.add_argument(
        "--store", metavar="STORE", required=True, help="a directory, made if it is missing"
    )
    parser.add_argument(
        "--manifest", metavar="FILE", help="where the manifest is written; default: stdout"
    )
    parser.add_argument(
        "--expect",
        metavar="FILE",
        help="a manifest: add nothing if the source is not what it says",
    )
    parser.add_argument(
        "--algorithm",
        choices=("sha256", "sha512"),
        default="sha256",
        help="by which digest files are kept; default: sha256",
    )
    parser.add_argument("--quiet", action="store_true", help="tell of nothing but errors")
    parser.set_defaults(run=_add, parser=parser, json=False)


def _processors() -> int:
    """Return how many processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not a call of this system
        return os.cpu_count() or 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m linker`` with these arguments; return its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    adding = given[:1] == ["add"]
    plain = None if adding else read_plainly(given)
    if plain is not None and (plain.verify or plain.store is not None):
        plain.run = _link
        return run(plain)
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m linker" + (" add" if adding else ""),
        usage=None
        if adding
        else "%(prog)s [options] SOURCE TARGET\n"
        "       %(prog)s [options] --store STORE MANIFEST TARGET\n"
        "       %(prog)s add --store STORE [options] SOURCE",
        description="Put the files of a directory into a store." if adding else DESCRIPTION,
        epilog=STATUSES_OF_ADDING if adding else STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    (configure_add if adding else configure_link)(parser)
    return run(parser.parse_args(given[1:] if adding else given))


def run(arguments: Arguments) -> int:
    """Run what the arguments ask for; return the exit status."""
    try:
        return int(arguments.run(arguments))
    except LinkError as error:
        tell_error(arguments, plain_error(error), error_lines(error))
        return Status.LEFT if error.left else Status.FAILED
    except Untold as untold:
        complain(f"cannot write to stdout: {untold}")
        return Status.UNTOLD
    except KeyboardInterrupt as interrupt:
        for line in ("interrupted", *getattr(interrupt, "__notes__", ())):
            complain(printable(line))
        return Status.INTERRUPTED


def tell_error(arguments: Arguments, plain: dict[str, Any], lines: Iterable[str]) -> None:
    """Tell an error to people and, if that was asked for, to programs, who may be gone."""
    if arguments.json:
        try:
            tell_json({"error": plain})
        except Untold as untold:
            complain(f"cannot write to stdout: {untold}")
    for line in lines:
        complain(line)


# --- the commands -------------------------------------------------------------------------------


def _link(arguments: Arguments) -> Status:
    if not arguments.verify and arguments.store is None:
        arguments.parser.error("--no-verify means nothing without --store")
    policy = ALL[arguments.policy]
    counter = _Counter(sys.stderr) if arguments.progress else None
    options: dict[str, Any] = {
        "mode": arguments.mode or policy.default_on(current().name),
        "policy": policy,
        "existing": Existing(arguments.existing),
        "mutable": arguments.mutable,
        "strict": arguments.strict,
        "progress": counter,
        "processes": arguments.processes or min(_processors(), MOST),
    }
    try:
        if arguments.store is not None:
            from linker.store import Store

            store = Store(arguments.store)
            report = store.link(
                _read_manifest(arguments.source),
                arguments.target,
                verify=arguments.verify,
                **options,
            )
        else:
            from linker.engine import link_tree

            report = link_tree(arguments.source, arguments.target, **options)
    finally:
        if counter is not None:
            counter.end()
    for line in fallback_lines(report):
        complain(line)
    for path in report.leftovers:
        complain(f"left behind: {printable(path)}")
    if arguments.json:
        tell_json(plain_report(report))
    elif not arguments.quiet:
        tell(summary(report))
    return Status.DONE


def _add(arguments: Arguments) -> Status:
    from linker.manifest import Manifest
    from linker.store import Store

    store = Store(arguments.store)
    if arguments.manifest is not None and not _is_to_be_made(store.path, arguments.manifest):
        Manifest.check_writable(arguments.manifest)  # before anything is added
    expected = Manifest.read(arguments.expect) if arguments.expect is not None else None
    manifest = store.add(arguments.source, algorithm=arguments.algorithm, expected=expected)
    if arguments.manifest is not None:
        manifest.write(arguments.manifest)
    else:
        tell(manifest.dumps().rstrip("\n"))
    if not arguments.quiet:
        different = len(set(manifest.files.values()))
        complain(f"{_count(len(manifest.files), 'file')}, {different} different, are in the store")
    return Status.DONE


def _is_to_be_made(store: str, manifest: str) -> bool:
    """Return whether the directory of a manifest is that of a store which is not there yet."""
    from linker.inputs import check_paths

    check_paths(manifest=manifest)
    above = os.path.dirname(os.path.abspath(manifest))
    return above == store and not os.path.lexists(store)


def _read_manifest(path: str) -> Manifest:
    from linker.manifest import Manifest

    if path != "-":
        return Manifest.read(path)
    try:
        text = sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # closed, or a device that gives nothing
        raise LinkError(
            "cannot read the manifest from stdin",
            why=str(getattr(error, "strerror", "") or "it is closed"),
            hint="name its file, or give it a pipe",
        ) from error
    return Manifest.loads(text)


# --- words --------------------------------------------------------------------------------------


def summary(report: LinkReport) -> str:
    """Return in one line what was made."""
    files = sum(report.counts.values())
    modes = ", ".join(f"{number} {mode}" for mode, number in report.counts.items())
    parts = [
        _count(files, "file") + (f" ({modes})" if modes else ""),
        _count(report.directories, "new directory", "new directories"),
    ]
    if report.symlinks:
        parts.append(_count(report.symlinks, "symlink") + " recreated")
    if report.replaced:
        parts.append(f"{report.replaced} replaced")
    return ", ".join(parts)


def fallback_lines(report: LinkReport) -> list[str]:
    """Return one line for each edge that was taken, with the mode that its files ended in."""
    groups: dict[tuple[str, LinkMode, Scope], list[Transition]] = {}
    for taken in report.transitions:
        key = (taken.edge.id, ended_in(taken, report), taken.scope)
        groups.setdefault(key, []).append(taken)
    return [
        f"asked for {report.requested}, got {ended}: {_reach(group)} met "
        f"{group[0].edge.condition} at {group[0].edge.primitive} ({_reason(group[0].error)})"
        f", first {printable(group[0].path)}"
        for (_, ended, _), group in groups.items()
    ]


def ended_in(taken: Transition, report: LinkReport) -> LinkMode:
    """Return the mode in which the files of a fallback ended: further fallbacks may follow it."""
    mode = taken.edge.fallback or report.requested
    following = True
    while following:
        following = False
        for other in report.transitions:
            reaches = other.scope == taken.scope or other.scope == "pair"
            if other.edge.mode is mode and other.path == taken.path and reaches:
                further = other.edge.fallback
                if further is not None and further is not mode:
                    mode, following = further, True
                    break
    return mode


def _reach(group: Sequence[Transition]) -> str:
    if group[0].scope != "pair":
        return _count(len(group), "file")
    if len(group) == 1:
        return "this pair of filesystems"
    return f"{len(group)} pairs of filesystems"


def _reason(error: OSError | None) -> str:
    return "" if error is None else error.strerror or str(error)


def error_lines(error: LinkError) -> list[str]:
    """Return what went wrong, why, what remains and how to mend it, fit for any terminal."""
    lines = [printable(error.what) + (f": {printable(error.why)}" if error.why else "")]
    if error.left:
        lines.append("could not be undone: " + ", ".join(map(printable, error.left)))
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    return lines


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


# --- plain data ---------------------------------------------------------------------------------


def plain_report(report: LinkReport) -> dict[str, Any]:
    """Return a report as JSON has it: ``linker-report``, version 1."""
    return {
        "format": "linker-report",
        "version": 1,
        "policy": report.policy,
        "requested": report.requested.value,
        "counts": {mode.value: number for mode, number in report.counts.items()},
        "directories": report.directories,
        "symlinks": report.symlinks,
        "replaced": report.replaced,
        "fallbacks": [
            {
                "edge": taken.edge.id,
                "condition": taken.edge.condition.value,
                "scope": str(taken.scope),
                "ended": ended_in(taken, report).value,
                "path": taken.path,
                "error": _reason(taken.error),
                "proof": taken.proof,
            }
            for taken in report.transitions
        ],
        "leftovers": list(report.leftovers),
    }


def plain_error(error: LinkError) -> dict[str, Any]:
    """Return an error as JSON has it."""
    return {
        "what": error.what,
        "why": error.why,
        "hint": error.hint,
        "path": error.path,
        "primitive": error.primitive,
        "condition": error.condition,
        "edge": error.edge.id if error.edge else None,
        "left": list(error.left),
    }


# --- streams ------------------------------------------------------------------------------------


class Untold(Exception):
    """What should be told could not be written, for another reason than that nobody listens."""


def tell(text: str) -> None:
    """Print to stdout. Raises `Untold`."""
    try:
        _write(sys.stdout, text + "\n")
    except OSError as error:
        _silence(sys.stdout)
        raise Untold(error.strerror or str(error)) from error


def tell_json(document: object) -> None:
    """Print a JSON document to stdout: ASCII, so that names of any bytes get through."""
    import json  # only where it is asked for

    tell(json.dumps(document, indent=1))


def complain(text: str) -> None:
    """Print a line to stderr, or to nobody."""
    try:
        _write(sys.stderr, text + "\n")
    except OSError:
        _silence(sys.stderr)


def _write(stream: TextIO | None, text: str) -> None:
    """Write in whatever encoding the stream has; a reader who is gone is no reason to fail."""
    if stream is None:  # the descriptor was closed before we began
        return
    try:
        stream.write(encodable(text, stream))
        stream.flush()
    except OSError as error:
        if not _is_for_nobody(error):
            raise
        _silence(stream)


def encodable(text: str, stream: TextIO) -> str:
    """Return a text as a stream can write it, with an escape for each letter that it has not."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_for_nobody(error: OSError) -> bool:
    """Return whether the reader of a pipe is gone, for which Windows' C library says EINVAL."""
    if HERE == "win32":
        return error.errno in (errno.EPIPE, errno.EINVAL)
    return isinstance(error, BrokenPipeError)


def _silence(stream: TextIO) -> None:
    """Let nothing more be written, or Python would try once more when it ends, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Counter:
    """Shows how many files are done: in place on a terminal, else a line each tenth."""

    def __init__(self, stream: TextIO | None) -> None:
        self._in_place = stream is not None and stream.isatty()
        self._next = 0.0
        self._told = -1

    def __call__(self, done: int, total: int) -> None:
        """Take note of progress."""
        if done == self._told:
            return
        if self._in_place:
            now = time.monotonic()
            if now < self._next and done < total:
                return
            self._next = now + 0.1
            self._print(f"\r{done} of {total} files")
        elif done >= self._next or done == total:
            self._next = done + total / 10
            self._print(f"{done} of {total} files\n")
        else:
            return
        self._told = done

    def end(self) -> None:
        """Leave the line."""
        if self._in_place and self._told >= 0:
            self._print("\n")

    def _print(self, text: str) -> None:
        try:
            _write(sys.stderr, text)
        except OSError:
            _silence(sys.stderr)
