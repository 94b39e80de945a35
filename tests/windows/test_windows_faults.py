"""Faults in the linker on Windows: every call of its platform meets them, by the names of errors
that Windows has.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.conditions import Condition
from linker.platforms.windows import NUMBERS, Calls
from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import dialect_of, faulty
from pytest_linkmode.faults.spec import EFFECTS, NO_EFFECT, OPS, WITHIN, Fault, Kill, Spec
from tests.patience import SECONDS
from tests.windows.conftest import Stand

CLONE, HARDLINK, _, COPY = LinkMode
BLOCK_CLONES = pytest.mark.faked("block-clones")


@pytest.fixture
def trees(stand: Stand) -> tuple[pathlib.Path, pathlib.Path]:
    """Give a source of three files, and a target that is not there yet."""
    for name in ("b", os.path.join("d", "a"), os.path.join("d", "c")):
        stand.put(os.path.join("source", name), name[-1].encode() * 70_000)
    return pathlib.Path(stand.here, "source"), pathlib.Path(stand.there, "target")


def link(
    stand: Stand,
    trees: tuple[pathlib.Path, pathlib.Path],
    mode: LinkMode,
    *faults: Spec,
    log: tuple[str, ...] = (),
) -> tuple[LinkReport | LinkError | None, Injection]:
    source, target = trees
    ended: LinkReport | LinkError | None = None
    with Injection(faults, log=log, standing_in=False) as injection:  # noqa: SIM117
        with faulty(injection, stand.platform) as platform:
            try:
                ended = link_tree(source, target, mode=mode, platform=platform)
            except LinkError as error:
                ended = error
    return ended, injection


def whole(target: pathlib.Path) -> bool:
    """Return whether a target holds all that the source has, and nothing else."""
    found = {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }
    return found == {name: name[-1].encode() * 70_000 for name in ("b", "d/a", "d/c")}


def test_every_call_of_the_platform_has_its_op() -> None:
    rows = dialect_of("windows").rows
    assert set(rows) == {each.name for each in dataclasses.fields(Calls)} - {"sleep", "extended"}
    assert {op for row in rows.values() for op in row.ops} == {*OPS, *WITHIN}


@pytest.mark.parametrize(
    ("mode", "op"),
    [
        *((COPY, op) for op in ("copy", "create", "mkdir", "rename", "open", "close", "read")),
        *((COPY, op) for op in ("stamp", "lock", "unlink")),
        (HARDLINK, "hardlink"),
        pytest.param(CLONE, "clone", marks=BLOCK_CLONES),
    ],
)
@pytest.mark.parametrize("name", ["ERROR_IO_DEVICE", "EIO"])
def test_an_error_of_each_op_is_met_and_nothing_half_is_left(
    stand: Stand, trees: tuple[pathlib.Path, pathlib.Path], mode: LinkMode, op: str, name: str
) -> None:
    fault = Fault(op, name, 1)
    ended, injection = link(stand, trees, mode, fault)
    assert injection.fired == {fault: 1}
    if isinstance(ended, LinkReport):
        assert whole(trees[1])
    else:
        assert isinstance(ended, LinkError)
        assert ended.left == ()
        assert not trees[1].exists()
        assert ended.condition is Condition.IO
        assert isinstance(ended.__cause__, OSError)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("ERROR_TOO_MANY_LINKS", "too-many-links"),
        ("EMLINK", "too-many-links"),
        ("ERROR_NOT_SAME_DEVICE", "cross-device"),
        ("EXDEV", "cross-device"),
    ],
)
def test_one_file_goes_the_way_that_the_policy_names(
    stand: Stand, trees: tuple[pathlib.Path, pathlib.Path], name: str, condition: str
) -> None:
    fault = Fault("hardlink", name, path="*/source/d/a")
    ended, injection = link(stand, trees, HARDLINK, fault, log=("hardlink",))
    assert isinstance(ended, LinkReport)
    assert ended.counts == {HARDLINK: 2, COPY: 1}
    (taken,) = ended.transitions
    assert taken.edge.id == f"windows/hardlink/hardlink/{condition}"
    assert (taken.path, taken.proof) == ("d/a", "injected")
    assert whole(trees[1])
    (hit,) = [call for call in injection.calls() if call.fault]
    assert hit.error == name
    assert pathlib.Path(hit.paths[0]) == trees[0] / "d" / "a"


@pytest.mark.faked("block-clones")
def test_a_clone_is_told_from_what_else_a_volume_is_asked(
    stand: Stand, trees: tuple[pathlib.Path, pathlib.Path]
) -> None:
    fault = Fault("clone", "ERROR_BLOCK_TOO_MANY_REFERENCES", path="*/source/b")
    ended, injection = link(stand, trees, CLONE, fault, log=("clone",))
    assert isinstance(ended, LinkReport)
    assert ended.counts == {CLONE: 2, COPY: 1}
    assert {os.path.basename(call.paths[0]) for call in injection.calls()} == {"a", "b", "c"}
    assert whole(trees[1])


@pytest.mark.parametrize("op", sorted(EFFECTS[NO_EFFECT] - {"clone", "hardlink", "symlink"}))
def test_what_did_nothing_is_noticed(
    stand: Stand, trees: tuple[pathlib.Path, pathlib.Path], op: str
) -> None:
    ended, _ = link(stand, trees, COPY, Fault(op, NO_EFFECT, 1))
    if isinstance(ended, LinkReport):
        assert whole(trees[1])
    else:
        assert isinstance(ended, LinkError)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("op", ["create", "copy", "rename", "unlink"])
def test_a_kill_ends_it_and_keeps_no_handle(
    stand: Stand, trees: tuple[pathlib.Path, pathlib.Path], op: str, when: str
) -> None:
    ended, injection = link(stand, trees, COPY, Kill(op, 1, when))  # type: ignore[arg-type]
    assert ended is None
    assert injection.killed
    report = link_tree(*trees, mode=COPY, platform=stand.platform)
    assert report.leftovers == ()
    assert whole(trees[1])
    assert {path.name for path in trees[1].parent.iterdir()} == {"target"} | (
        {"source"} if trees[0].parent == trees[1].parent else set()
    )


def test_errors_of_windows_have_names_that_are_known() -> None:
    assert "ERROR_SHARING_VIOLATION" in NUMBERS
    with pytest.raises(UsageError, match="'ERROR_SHARING_VIOLATION'"):
        Fault("rename", "ERROR_SHARING_VIOLATIONS")


def test_a_clone_that_is_told_its_lengths_cannot_be_short(stand: Stand) -> None:
    with Injection([Fault("clone", "SHORT")], standing_in=False) as injection:  # noqa: SIM117
        with pytest.raises(UsageError, match="by pieces"), faulty(injection, stand.platform):
            raise AssertionError("it must be refused")


def test_no_module_of_another_system_is_loaded() -> None:
    program = (
        "import sys; from pytest_linkmode.faults.linking import dialect_of; dialect_of('windows');"
        "print(*[name for name in sys.modules if name.endswith(('.linux', '.macos', '_posix'))])"
    )
    command = [sys.executable, "-P", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    assert ended.stdout.split() == []
