"""`linkmode matrix`: what real installers do, held against their policies, as one page."""

from __future__ import annotations

import argparse
import datetime
import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from linker.cli import Status, complain, tell
from pytest_linkmode.commands.words import several
from pytest_linkmode.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Say what `linkmode matrix` takes."""
    parser.add_argument(
        "--quick", action="store_true", help="few layouts and faults: within three minutes"
    )
    parser.add_argument(
        "--program", type=several, default=(), metavar="NAMES", help="only these, as in uv,bun"
    )
    parser.add_argument(
        "--layout", type=several, default=(), metavar="NAMES", help="only these, as in btrfs,ext4"
    )
    parser.add_argument(
        "--processes", type=int, default=2, metavar="N", help="on so many at a time (default: 2)"
    )
    parser.add_argument(
        "--directory",
        metavar="PATH",
        help="where programs and results are kept, so that they are had and run only once "
        "(default: .linkmode/installers of the checkout, or the user's cache)",
    )
    parser.add_argument("--page", metavar="PATH", help="the HTML page (default: in that directory)")
    parser.add_argument("--markdown", metavar="PATH", help="the page for a documentation")
    parser.add_argument("--json", metavar="PATH", help="the results as data")
    parser.add_argument(
        "--cells",
        metavar="PATH",
        help="one line for each cell, of which is told what has changed since it was written "
        "(default: in that directory)",
    )
    parser.set_defaults(run=_matrix)


def _matrix(arguments: argparse.Namespace) -> Status:
    from pytest_linkmode import layouts
    from pytest_linkmode.installers import kit, matrix, pages
    from pytest_linkmode.installers.programs import PROGRAMS

    known = [program.name for program in PROGRAMS]
    unknown = [name for name in arguments.program if name not in known]
    if unknown:
        raise UsageError(f"no program is called {unknown[0]!r}", hint=f"known: {', '.join(known)}")
    for name in arguments.layout:
        layouts.parse(name)
    if arguments.processes < 1:
        raise UsageError("--processes must be at least 1")
    directory = os.path.abspath(arguments.directory or kit.state_directory())
    page = arguments.page or os.path.join(directory, "results.html")
    data = arguments.json or os.path.join(directory, "results.json")
    kept = arguments.cells or os.path.join(directory, "cells.json")
    _must_be_writable(directory, *filter(None, (page, data, arguments.markdown, kept)))
    before = _read_cells(kept, pages.CELLS)
    began = time.monotonic()
    kit.ensure(directory, complain)
    wanted = list(
        matrix.asked(quick=arguments.quick, programs=arguments.program, chosen=arguments.layout)
    )
    names = dict.fromkeys(one.program for one in wanted)
    complain(", ".join(f"{name} {matrix.there(name)[1]}" for name in names))
    complain(f"{len(wanted)} pairs of a program and a layout; results are kept in {directory}")
    matrix.run(directory, wanted, _progress(len(wanted)), processes=arguments.processes)
    whole = not (arguments.quick or arguments.program or arguments.layout)
    cells = matrix.collect(directory, wanted)
    results = pages.Results(cells, datetime.datetime.now(datetime.UTC), whole)
    _write(page, pages.page(results))
    _write(data, json.dumps(pages.plain(results), indent=1) + "\n")
    if arguments.markdown:
        _write(arguments.markdown, pages.markdown(results))
    _write(kept, pages.cells_text(pages.cells(results, before)))
    _show(pages.scores(results))
    if results.differences:
        _show(pages.differing(results))
    changed = pages.changes(results, before)
    if len(changed) > 1:
        tell("\nChanged since the last run:")
        _show(changed)
    tell(f"\n{pages.headline(results)}, in {time.monotonic() - began:.0f} s.\nPage: {page}")
    return Status.DONE if results.ok else Status.FAILED


def _progress(total: int) -> Callable[[str], None]:
    done = 0

    def say(line: str) -> None:
        nonlocal done
        done += 1
        complain(f"[{done}/{total}] {line}")

    return say


def _show(table: Sequence[Sequence[str]]) -> None:
    from pytest_linkmode.commands.words import Paint, aligned

    paint = Paint.of_stdout()
    colours = {"yes": paint.green, "no": paint.red}
    tell("\n" + "\n".join(aligned([tuple(row) for row in table], paint, colours)))


_OTHER_CELLS = "name another file by --cells, or remove this one: all cells are run then"


def _read_cells(path: str, form: str) -> dict[str, Any]:
    """Return what was told of the cells the last time; nothing if there was no such time.

    Raises UsageError if the file is something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found: Any = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{path} has no cells", why=str(error), hint=_OTHER_CELLS) from None
    if not isinstance(found, dict) or found.get("format") != form:
        raise UsageError(f"{path} has no cells", why=f"its format is not {form}", hint=_OTHER_CELLS)
    return dict(found)


def _must_be_writable(directory: str, *paths: str) -> None:
    """Make the directory, and raise UsageError for the first that could not be written."""
    path = directory
    try:
        os.makedirs(directory, exist_ok=True)
        for path in paths:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            part = f"{path}.part-{os.getpid()}"
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.remove(part)
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from None


def _write(path: str, text: str) -> None:
    part = f"{path}.part-{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)
