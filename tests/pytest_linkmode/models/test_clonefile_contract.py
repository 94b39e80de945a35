"""One contract for clonefile(2): the model keeps it here, the real call has to on a Mac."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from linker.platforms import macos
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.models import clonefile
from pytest_linkmode.models.contract import (
    DESTINATIONS,
    FLAGS,
    INVALID,
    SOURCES,
    Bench,
    Value,
    call,
    expected,
    unlike,
    volumes,
)
from pytest_linkmode.selection import Choice
from tests.linker import trees

ON_A_MAC = sys.platform == "darwin"
OTHER_VOLUME = "CLONEFILE_SECOND_VOLUME"
"""Environment variable: a directory of a Mac on a second volume, one that cannot clone."""

NOT_A_MAC = "not applicable: the real call is there on macOS only"
NO_MODEL = "not applicable: the model stands on reflinks of Linux"
IMPLEMENTATIONS = [
    Choice("real", out="" if ON_A_MAC else NOT_A_MAC),
    *(Choice(name, out=NO_MODEL if ON_A_MAC else "") for name in ("whole-btrfs", "items-btrfs")),
    *(Choice(name, out=NO_MODEL if ON_A_MAC else "") for name in ("whole-xfs", "items-xfs")),
]


class LinuxHands:
    def give_attribute(self, path: str) -> None:
        os.setxattr(path, "user.com.example.note", b"note")

    def give_access_list(self, path: str) -> None:
        clonefile.set_access_list(path, b"everyone allow read")

    def attributes(self, path: str) -> dict[str, bytes]:
        names = [name for name in os.listxattr(path) if not name.startswith("user.linkmode.")]
        return {name: os.getxattr(path, name) for name in names if name.startswith("user.")}


class MacHands:
    def give_attribute(self, path: str) -> None:
        subprocess.run(["xattr", "-w", "com.example.note", "note", path], check=True)

    def give_access_list(self, path: str) -> None:
        subprocess.run(["chmod", "+a", "everyone allow read", path], check=True)

    def attributes(self, path: str) -> dict[str, bytes]:
        said = subprocess.run(["xattr", "-l", path], check=True, capture_output=True).stdout
        kept = [line for line in said.splitlines() if line.startswith(b"com.example.")]
        return {"all": b"\n".join(kept)}


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def bench(
    request: pytest.FixtureRequest,
    linkmode_fs_factory: Callable[[str], TestFilesystem],
    tmp_path: pathlib.Path,
) -> Iterator[Bench]:
    """An implementation with its volumes, for an ordinary user, whom permissions stop."""
    name = request.param.name
    if name == "real":
        other = os.environ.get(OTHER_VOLUME)
        plain = tempfile.mkdtemp(dir=other) if other else None
        yield Bench(name, macos.CALLS, MacHands(), str(tmp_path), plain, plain, os.geteuid() != 0)
        if plain:
            shutil.rmtree(plain)
        return
    way, _, filesystem = name.partition("-")
    same = linkmode_fs_factory(filesystem).path
    plain = str(linkmode_fs_factory("tmpfs").path)
    model = clonefile.Model(atomic=way == "whole")
    for path in (same, plain):
        os.chmod(path, 0o777)
    from tests.linker import users  # what it needs of the system is Linux's

    with users.ordinary_user():
        yield Bench(name, model.calls, LinuxHands(), str(same), plain, plain, user=True)
        trees.remove(f"{same}/case")


def arrange(bench: Bench, source: Value, destination: Value, where: tuple[str, str]) -> list[str]:
    """Make source and destination anew; return the paths of source and of the target's directory,
    and the destination's name below that."""
    places = []
    for side, root in zip(("source", "target"), where, strict=True):
        place = f"{root}/case/{side}"
        trees.remove(place)
        os.makedirs(place)
        places.append(place)
    path = f"{places[0]}/from"
    source.make(bench.hands, path)
    destination.make(bench.hands, f"{places[1]}/{destination.name}")
    return [path, places[1], destination.name]


@pytest.mark.parametrize("by", ["name", "descriptor"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda value: value.name)
def test_every_call_ends_as_the_manual_says(bench: Bench, source: Value, by: str) -> None:
    if by == "descriptor" and (source.link or "ENOENT" in source.errors or source.user):
        by = "name"  # there is no descriptor of such a thing
    wrong, made, refused = [], 0, 0
    for volume in volumes(bench):
        where = (volume.source, volume.target)
        for destination in DESTINATIONS:
            path, target, new = arrange(bench, source, destination, where)
            before = trees.lasting(trees.snapshot(target))
            for flags in (*FLAGS, INVALID, INVALID | FLAGS[0]):
                wanted = expected(flags, source, destination, volume, user=bench.user)
                said = call(bench, by, path, target, new, flags)
                case = f"{volume.name}, {destination.name[:20]!r}, flags {flags:#x}"
                if (said not in wanted) if wanted else said:
                    wrong.append(f"{case}: {said or 'success'}, not {wanted or 'success'}")
                elif said:
                    refused += 1
                    changed = trees.differences(before, trees.lasting(trees.snapshot(target)))
                    wrong += [f"{case}: {each}" for each in changed]
                else:
                    made += 1
                    clone = f"{target}/{new}"
                    wrong += [f"{case}: {each}" for each in unlike(bench, path, clone, flags)]
                    trees.remove(clone)
                    before = trees.lasting(trees.snapshot(target))
    assert not wrong, "\n".join([f"{len(wrong)} of {made + refused}", *wrong[:20]])
    assert refused > 50
    possible = not source.errors or (source.user and not bench.user) or source.link
    assert bool(made) == possible


def test_what_is_cloned_is_isolated_from_its_source(bench: Bench) -> None:
    source = next(value for value in SOURCES if value.name == "hierarchy")
    path, target, _ = arrange(bench, source, DESTINATIONS[0], (bench.same, bench.same))
    assert call(bench, "name", path, target, "new", FLAGS[1]) == ""
    with open(f"{target}/new/file", "r+b") as writing:
        writing.write(b"edited")
    with open(f"{path}/file", "rb") as reading:
        assert reading.read(6) != b"edited"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.linkmode(fs=["btrfs"])
def test_root_keeps_the_owner_unless_told_not_to(linkmode_fs: TestFilesystem) -> None:
    path = f"{linkmode_fs.path}/from"
    os.mkdir(path)
    trees.build(f"{path}/tree", {"f": trees.File(b"f"), "ln": trees.Symlink("f")})
    for each in ("f", "ln", ""):
        os.chown(f"{path}/tree/{each}", 1234, 1234, follow_symlinks=False)
    model = clonefile.Model(atomic=False)
    bench = Bench("root", model.calls, LinuxHands(), str(path), None, None, user=False)
    for flags in FLAGS[:2]:
        assert call(bench, "name", f"{path}/tree", path, f"clone-{flags}", flags) == ""
        assert unlike(bench, f"{path}/tree", f"{path}/clone-{flags}", flags) == []
