"""Every way to do an op meets its fault, in a static binary, whatever the mechanism."""

from __future__ import annotations

import errno
import os
import pathlib
import sys
from typing import Any

import pytest

from pytest_linkmode.faults import Fault, FaultRunner
from pytest_linkmode.faults.ops import AARCH64, WAYS, Way, architecture

STRANGE = "EXFULL"
"""An error that no filesystem gives: whoever sees it was told it by us."""

MECHANISMS: dict[str, dict[str, Any]] = {
    "filter": {"log": ()},
    "supervisor": {},
    "tracer": {"results": True},
}
EXTRA = {
    "ioctl:FICLONE:high": ("clone", "ioctl (FICLONE)"),
    "linkat:descriptor": ("hardlink", "linkat"),
    "write:nameless": ("copy", "write"),
    "writev:two": ("copy", "writev"),
    "mknodat:plain": ("create", "mknodat"),
}
"""Programs whose calls are other spellings of a row, with the op and the way of the log."""


def key(way: Way) -> str:
    return way.call + (f":{way.note}" if way.note else "")


def logged(way: Way) -> tuple[str, str]:
    return way.op, way.call + (f" ({way.note})" if way.note else "")


ROWS = {key(way): logged(way) for way in WAYS} | EXTRA


def here(name: str) -> bool:
    arch = architecture()
    return arch is None or name.partition(":")[0] in arch.numbers


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", [name for name in ROWS if here(name)])
def test_the_way_meets_its_fault(
    name: str, mechanism: str, calls: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    op, way = ROWS[name]
    (place / "d").mkdir()
    # A file that is only the place to write to would itself be made by `create`.
    faults = [f"{op}:{STRANGE}"]
    run = runner.run([calls, name], cwd=place, faults=faults, **MECHANISMS[mechanism])
    assert run.stdout == f"-1 {getattr(errno, STRANGE)}\n", run
    assert run.escapes == ()
    if mechanism != "filter":
        told = [(call.way, call.error) for call in run.of(op)]
        assert told == [(way, STRANGE)]
        assert sum(run.fired.values()) == 1
    if op not in ("copy", "clone"):
        assert not os.path.lexists(place / "b")
    if op in ("unlink", "rename"):
        assert (place / "a").exists()


def test_every_row_of_the_table_has_a_program() -> None:
    programs = pathlib.Path(__file__).with_name("calls.c").read_text()
    for name in ROWS:
        assert f'IS("{name}")' in programs


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("openat:old", "create"),
        ("openat2:old", "create"),
        ("mknodat:fifo", "create"),
        ("write:old", "copy"),
    ],
)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_call_of_the_same_number_that_does_not_do_the_op_is_left_alone(
    name: str, op: str, mechanism: str, calls: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    faults = [f"{op}:{STRANGE}"]
    run = runner.run([calls, name], cwd=place, faults=faults, **MECHANISMS[mechanism])
    assert run.stdout.endswith(" 0\n")
    assert run.of(op) == ()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("io_uring_setup", "io_uring_setup"),
        ("mkdir:i386", "another architecture"),
        ("mkdir:x32", "x32"),
    ],
)
def test_what_nobody_could_see_is_closed_and_reported(
    name: str, said: str, mechanism: str, calls: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    if not here("link") and name.startswith("mkdir:"):
        pytest.skip(f"{os.uname().machine} has no such calls")
    faults = ["mkdir:EIO:nth=9"] if mechanism != "filter" else ["mkdir:EIO"]
    run = runner.run([calls, name], cwd=place, faults=faults, **MECHANISMS[mechanism])
    assert run.stdout == f"-1 {errno.ENOSYS}\n"
    assert not (place / "b").exists()
    if mechanism != "filter":
        (escape,) = run.escapes
        assert said in escape
        assert "ENOSYS" in escape


def test_a_thorough_runner_leaves_nothing_to_the_filter(
    faultable: None, calls: str, place: pathlib.Path
) -> None:
    thorough, fault = FaultRunner(thorough=True), Fault("hardlink", "EIO")
    for keywords in MECHANISMS.values():
        run = thorough.run([calls, "linkat"], cwd=place, faults=[fault], **{**keywords, "log": ()})
        assert run.stdout == f"-1 {errno.EIO}\n"
        assert run.fired == {fault: 1}
        closed = thorough.run([calls, "io_uring_setup"], faults=[fault], **{**keywords, "log": ()})
        assert closed.fired == {}
        assert "io_uring_setup" in closed.escapes[0]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_without_a_fault_the_calls_do_what_they_do(
    mechanism: str, calls: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    for name in ("linkat", "symlinkat", "mkdirat", "openat", "copy_file_range"):
        run = runner.run([calls, name], cwd=place, **MECHANISMS[mechanism])
        assert run.stdout.endswith(" 0\n")
        assert run.stdout[0] != "-"
        if (place / "b").is_dir() and not (place / "b").is_symlink():
            (place / "b").rmdir()
        else:
            (place / "b").unlink()


def test_all_ways_of_aarch64_are_ways_here_too() -> None:
    # What this machine runs covers every row of the other architecture.
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        assert {way.call for way in WAYS if way.call in AARCH64.numbers} <= {
            name.partition(":")[0] for name in ROWS if here(name)
        }
