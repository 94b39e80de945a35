"""Faults in the linker on macOS: every call of its platform meets them, in Darwin's numbers; on a
Mac the real calls, elsewhere the model of them.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.conditions import Condition
from linker.platforms import current
from linker.platforms.base import Platform
from linker.platforms.macos import NUMBERS, Calls
from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import dialect_of, faulty
from pytest_linkmode.faults.spec import EFFECTS, OPS, WITHIN, Fault, Kill, Spec
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.models import clonefile

CLONE, HARDLINK, SYMLINK, COPY = LinkMode
FILES = ("b", "d/a", "d/c")


@pytest.fixture
def trees(
    linkmode_fs_factory: Callable[[str], TestFilesystem],
) -> tuple[pathlib.Path, pathlib.Path]:
    """Give a source of three files, and a target that has one of its directories already."""
    place = linkmode_fs_factory("apfs" if sys.platform == "darwin" else "btrfs").path
    source, target = place / "source", place / "target"
    (source / "d").mkdir(parents=True)
    (target / "d").mkdir(parents=True)
    for name in FILES:
        (source / name).write_bytes(name[-1].encode() * 5000)
    return source, target


def mac() -> Platform:
    return current() if sys.platform == "darwin" else clonefile.platform()


def link(
    trees: tuple[pathlib.Path, pathlib.Path],
    mode: LinkMode,
    *faults: Spec,
    log: tuple[str, ...] = (),
) -> tuple[LinkReport | LinkError | None, Injection]:
    ended: LinkReport | LinkError | None = None
    with Injection(faults, log=log, standing_in=False) as injection:  # noqa: SIM117
        with faulty(injection, mac()) as platform:
            try:
                ended = link_tree(*trees, mode=mode, platform=platform)
            except LinkError as error:
                ended = error
    return ended, injection


def whole(trees: tuple[pathlib.Path, pathlib.Path]) -> bool:
    source, target = trees
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    return found == set(FILES) and all(
        (source / name).read_bytes() == (target / name).read_bytes() for name in FILES
    )


def untouched(trees: tuple[pathlib.Path, pathlib.Path]) -> bool:
    return [path.name for path in trees[1].rglob("*")] == ["d"]


def test_every_call_of_the_platform_has_its_op() -> None:
    rows = dialect_of("macos").rows
    assert set(rows) == {each.name for each in dataclasses.fields(Calls)} - {"sleep", "errno"}
    assert {op for row in rows.values() for op in row.ops} == {*OPS, *WITHIN}


@pytest.mark.parametrize(
    ("mode", "op"),
    [
        *((CLONE, op) for op in ("clone", "mkdir", "rename", "open", "close", "read", "stamp")),
        *((CLONE, op) for op in ("lock", "unlink")),
        *((COPY, op) for op in ("copy", "create")),
        (HARDLINK, "hardlink"),
        (SYMLINK, "symlink"),
    ],
)
@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
def test_an_error_of_each_op_is_met_and_nothing_half_is_left(
    trees: tuple[pathlib.Path, pathlib.Path], mode: LinkMode, op: str, name: str
) -> None:
    fault = Fault(op, name, 1)
    ended, injection = link(trees, mode, fault)
    assert injection.fired == {fault: 1}
    if isinstance(ended, LinkReport):
        assert mode is SYMLINK or whole(trees)
    else:
        assert isinstance(ended, LinkError)
        assert ended.left == ()
        assert untouched(trees)
        assert ended.condition is (Condition.IO if name == "EIO" else Condition.NO_SPACE)
        assert isinstance(ended.__cause__, OSError)
        assert ended.__cause__.errno == NUMBERS[name]


@pytest.mark.parametrize(
    ("name", "condition"), [("ENOTSUP", "unsupported"), ("EXDEV", "cross-device")]
)
def test_a_clone_in_c_leaves_darwins_number(
    trees: tuple[pathlib.Path, pathlib.Path], name: str, condition: str
) -> None:
    fault = Fault("clone", name, path="*/source/d/a")
    ended, injection = link(trees, CLONE, fault, log=("clone",))
    assert isinstance(ended, LinkReport)
    assert ended.counts == {CLONE: 2, COPY: 1}
    (taken,) = ended.transitions
    assert taken.edge.id == f"macos/clone/clone-file/{condition}"
    assert (taken.path, taken.proof) == ("d/a", "injected")
    assert taken.error is not None
    assert taken.error.errno == NUMBERS[name]
    assert whole(trees)
    (hit,) = [call for call in injection.calls() if call.fault]
    assert hit.error in {name, "EOPNOTSUPP"}  # which is the same number here and there
    assert hit.paths[0] == str(trees[0] / "d" / "a")


def test_a_directory_that_appears_meanwhile_is_what_its_error_says(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    """APFS may say ENOENT for EEXIST: the clone of the directory is tried again, then made by
    hand.
    """
    (trees[1] / "d").rmdir()
    fault = Fault("clone", "ENOENT", path="*/source/d")
    ended, injection = link(trees, CLONE, fault)
    assert isinstance(ended, LinkReport)
    assert injection.fired[fault] > 1
    assert whole(trees)


@pytest.mark.parametrize(
    ("op", "effect"), [(op, effect) for effect in EFFECTS for op in sorted(EFFECTS[effect])]
)
@pytest.mark.parametrize("mode", [CLONE, COPY])
def test_what_did_nothing_or_half_is_noticed(
    trees: tuple[pathlib.Path, pathlib.Path], mode: LinkMode, op: str, effect: str
) -> None:
    ended, injection = link(trees, mode, Fault(op, effect, 1))
    if isinstance(ended, LinkReport):
        assert whole(trees)
        assert all(taken.proof == "injected" for taken in ended.transitions if injection.fired)
    else:
        assert isinstance(ended, LinkError)
        assert injection.fired
        assert op == "unlink" or untouched(trees)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("op", ["clone", "create", "rename", "unlink"])
def test_a_kill_ends_it_and_keeps_no_descriptor(
    trees: tuple[pathlib.Path, pathlib.Path], op: str, when: str
) -> None:
    before = os.dup(0)
    os.close(before)
    mode = COPY if op == "create" else CLONE
    ended, injection = link(trees, mode, Kill(op, 1, when))  # type: ignore[arg-type]
    assert ended is None
    assert injection.killed
    after = os.dup(0)  # the lowest number that is free
    os.close(after)
    assert after == before
    assert link_tree(*trees, mode=mode, platform=mac()).leftovers == ()
    assert whole(trees)


def test_an_error_of_windows_is_refused(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    with pytest.raises(UsageError, match="no call of macos fails"):
        link(trees, CLONE, Fault("clone", "ERROR_NOT_SUPPORTED"))
