"""`linkmode mount`: one filesystem on a directory of this machine, for a person to look around.

It stays when the command has ended, in the namespace of the host, and is written down before it
is there: `linkmode clean` removes it.
"""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from dataclasses import replace

from linker.cli import Status, tell, tell_json
from linker.failures import printable
from linker.inputs import check_paths
from pytest_linkmode.errors import LinkmodeError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Say what `linkmode mount` takes."""
    parser.add_argument("filesystem", metavar="FS", help="as in btrfs")
    parser.add_argument("directory", metavar="DIR", help="an empty directory")
    parser.add_argument("--image-size", metavar="SIZE", help="as in 512M; default: 2G")
    parser.add_argument("--json", action="store_true", help="the answer as JSON on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Status:
    """Mount it. Raises UsageError, Unavailable."""
    from pytest_linkmode import config, kernel, namespaces
    from pytest_linkmode.filesystems import kind_of, registry
    from pytest_linkmode.layouts import Workshop

    name = kind_of(arguments.filesystem).name
    check_paths(directory=arguments.directory)
    path = os.path.realpath(arguments.directory)
    _check(path)
    settings = replace(config.from_environment(), namespace=namespaces.HOST, dirs={})
    if arguments.image_size is not None:
        size = config.parse_size(arguments.image_size, "--image-size")
        settings = replace(settings, image_size=size)
    place = namespaces.find_place(namespaces.HOST)
    with closing(Workshop(place, settings)) as workshop:
        made = workshop.filesystem(name)
        if not made.made:
            raise UsageError(
                f"{name} is not made here, but is a directory that is there already",
                hint=f"use {made.facts.get('directory', made.path)}",
            )
        theirs = os.stat(path)
        os.chown(made.path, theirs.st_uid, theirs.st_gid)
        os.chmod(made.path, theirs.st_mode & 0o7777)
        shown = kernel.mount_at(made.path)
        if shown is None:
            raise LinkmodeError(f"{made.path} is not mounted any more")
        number = registry.ledger().note(
            registry.MOUNT, path, source=shown.source, fstype=shown.fstype
        )
        try:
            kernel.mount(made.path, path, flags=kernel.MS_BIND)
        except OSError as error:
            registry.ledger().forget(number)
            raise LinkmodeError(f"cannot mount on {path}", why=str(error)) from error
    # What the workshop undoes is its own mount of it; the one on `path` stays.
    if arguments.json:
        tell_json({"filesystem": name, "path": path, "device": shown.source})
    else:
        tell(printable(f"{name} is mounted on {path}; to remove it: linkmode clean"))
    return Status.DONE


def _check(path: str) -> None:
    from pytest_linkmode import kernel

    if not os.path.isdir(path):
        raise UsageError(f"{path} is no directory", hint="make one first, or name another")
    if kernel.mount_at(path) is not None:
        hint = "name another directory; what `linkmode mount` has mounted, `linkmode clean` removes"
        raise UsageError(f"something is mounted on {path} already", hint=hint)
    if os.listdir(path):
        raise UsageError(
            f"{path} is not empty",
            why="what is in it could not be seen any more",
            hint="name an empty directory",
        )
