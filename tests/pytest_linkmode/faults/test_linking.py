"""Faults in the reference linker: every call of its platform meets them, and nothing leaks."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.platforms.linux import Calls
from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults import Call, Fault, FaultRunner, Kill
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import dialect_of, faulty
from pytest_linkmode.faults.spec import EFFECTS, OPS, WITHIN, Spec, parse


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a source of two files and a symlink; the target is beside it."""
    made = tmp_path / "source"
    (made / "d").mkdir(parents=True)
    (made / "d" / "a").write_bytes(b"a" * 100)
    (made / "b").write_bytes(b"b" * 100)
    (made / "ln").symlink_to("b")
    return made


def link(
    source: pathlib.Path, mode: LinkMode, *faults: Spec, log: tuple[str, ...] = ()
) -> tuple[LinkReport | LinkError | None, Injection]:
    ended: LinkReport | LinkError | None = None
    with Injection(faults, log=log, standing_in=False) as injection:  # noqa: SIM117
        with faulty(injection) as platform:
            try:
                ended = link_tree(source, source.parent / "target", mode=mode, platform=platform)
            except LinkError as error:
                ended = error
    return ended, injection


def test_every_call_of_the_platform_has_its_op() -> None:
    names = {each.name for each in dataclasses.fields(Calls)} - {"sleep"}
    rows = dialect_of("linux").rows
    assert set(rows) == names
    assert {op for row in rows.values() for op in row.ops} == {*OPS, *WITHIN}


@pytest.mark.parametrize("op", ["open", "close", "read", "stamp", "lock"])
def test_calls_that_only_the_linker_can_tell_apart_meet_faults(
    source: pathlib.Path, op: str
) -> None:
    _, injection = link(source, LinkMode.COPY, Fault(op, "EIO", 1))
    assert injection.fired == {Fault(op, "EIO", 1): 1}


def test_the_error_is_of_the_class_that_the_kernels_would_have(source: pathlib.Path) -> None:
    ended, _ = link(source, LinkMode.HARDLINK, Fault("hardlink", "ENOENT", path="*/source/b"))
    assert isinstance(ended, LinkError)
    assert isinstance(ended.__cause__, FileNotFoundError)
    assert ended.__cause__.errno == errno.ENOENT
    assert not (source.parent / "target").exists()


def test_the_log_names_what_each_call_is_about(source: pathlib.Path) -> None:
    _, injection = link(source, LinkMode.HARDLINK, log=("hardlink", "symlink"))
    calls: tuple[Call, ...] = injection.calls()
    assert {call.paths[0] for call in calls if call.op == "hardlink"} == {
        str(source / "b"),
        str(source / "d" / "a"),
    }
    (symlink,) = [call for call in calls if call.op == "symlink"]
    assert symlink.paths[0] == "b"
    assert all(os.path.isabs(path) for call in calls for path in call.paths[1:])


def test_a_copy_is_counted_by_file(source: pathlib.Path) -> None:
    counts = link(source, LinkMode.COPY)[1].counts
    (source / "big").write_bytes(bytes(range(256)) * 4096)
    (source.parent / "target").rename(source.parent / "before")
    assert link(source, LinkMode.COPY)[1].counts["copy"] == counts["copy"] + 1


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("mode", LinkMode)
def test_what_did_nothing_or_half_is_noticed(
    source: pathlib.Path, mode: LinkMode, op: str, effect: str
) -> None:
    if op not in EFFECTS[effect]:
        with pytest.raises(UsageError):
            Fault(op, effect, 1)
        return
    ended, injection = link(source, mode, Fault(op, effect, 1))
    target = source.parent / "target"
    if isinstance(ended, LinkReport):
        assert (target / "b").read_bytes() == b"b" * 100
        assert (target / "d" / "a").read_bytes() == b"a" * 100
        assert (target / "ln").readlink() == pathlib.Path("b")
        assert all(taken.proof == "injected" for taken in ended.transitions if injection.fired)
    else:
        assert injection.fired
        assert not os.path.lexists(target)


@pytest.mark.parametrize("op", ["open", "close", "read", "create", "copy", "rename", "unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_ends_it_and_keeps_no_descriptor(source: pathlib.Path, op: str, when: str) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    ended, injection = link(source, LinkMode.COPY, Kill(op, 1, when))  # type: ignore[arg-type]
    assert ended is None
    assert injection.killed
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("op", WITHIN)
def test_a_program_cannot_have_them(op: str, faultable: None) -> None:
    with pytest.raises(UsageError, match=f"a program cannot have faults of {op}"):
        FaultRunner().run(["true"], faults=[parse(f"{op}:EIO")])
