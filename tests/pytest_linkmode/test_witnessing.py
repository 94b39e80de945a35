"""What a program did is read from its calls: edges of its policy, and those of none."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from linker.modes import LinkMode
from linker.policies import REFERENCE, UV
from pytest_linkmode.faults import support
from pytest_linkmode.faults.log import Call
from pytest_linkmode.witnessing import Taken, _has_no_data, edges
from tests.pytest_linkmode.places import ACROSS

Run = Callable[..., pytest.RunResult]

needs_supervision = pytest.mark.skipif(
    support.unavailable() is not None, reason=str(support.unavailable())
)


def log(*lines: str) -> list[Call]:
    """Calls, written as ``op source error``; a fault is marked by an exclamation mark."""
    calls = []
    for number, line in enumerate(lines, 1):
        op, name, *error = line.split()
        said = error[0].rstrip("!") if error else None
        fault = f"{op}:{said}" if error and error[0].endswith("!") else ""
        result = None if said else 0
        calls.append(Call(op, number, op, (f"/s/{name}", f"/t/{name}"), 1, fault, result, said))
    return calls


def uv(*lines: str, returncode: int = 0, mode: LinkMode | None = None) -> list[Taken]:
    return list(edges(log(*lines), UV, returncode, mode))


def test_what_works_takes_no_edge() -> None:
    assert uv("clone a", "clone b", mode=LinkMode.CLONE) == []


def test_a_failure_and_what_was_done_then_are_an_edge() -> None:
    assert uv("clone a EXDEV", "hardlink a EXDEV", "copy a", "copy b") == [
        ("linux/clone/clone-file/cross-device/initial", "real"),
        ("linux/hardlink/hardlink/cross-device/initial", "real"),
    ]


def test_another_state_is_another_edge() -> None:
    assert uv("clone a", "clone b EIO", returncode=2) == [
        ("linux/clone/clone-file/io/established", "real")
    ]


def test_from_a_fault_on_nothing_is_real() -> None:
    assert uv("clone a EOPNOTSUPP!", "hardlink a EXDEV", "copy a") == [
        ("linux/clone/clone-file/unsupported/initial", "injected"),
        ("linux/hardlink/hardlink/cross-device/initial", "injected"),
    ]


def test_another_file_under_way_meanwhile_is_not_what_was_done_then() -> None:
    assert uv("clone a EXDEV", "clone b EXDEV", "hardlink b", "hardlink a") == [
        ("linux/clone/clone-file/cross-device/initial", "real"),
        ("linux/clone/clone-file/cross-device/initial", "real"),
    ]


def test_a_name_that_exists_is_tried_again_under_another() -> None:
    assert uv("clone a EEXIST", "clone a") == [("linux/clone/clone-file/exists", "real")]


def test_a_way_that_no_edge_leads_has_a_name_of_its_own() -> None:
    assert uv("hardlink a EXDEV", "symlink a") == [
        ("linux/hardlink/hardlink/cross-device -> symlink", "real")
    ]
    assert uv("clone a", "clone b EXDEV", "hardlink b") == [
        ("linux/clone/clone-file/cross-device -> hardlink", "real")
    ]


def test_a_file_that_was_given_up_in_silence_is_not_an_edge() -> None:
    assert uv("hardlink a EPERM") == [("linux/hardlink/hardlink/denied -> nothing", "real")]
    assert list(edges(log("clone a EIO"), REFERENCE, 1)) == [("linux/clone/clone-file/io", "real")]


def test_an_empty_file_is_copied_by_being_made() -> None:
    assert uv("hardlink a EXDEV", "create a") == [
        ("linux/hardlink/hardlink/cross-device/initial", "real")
    ]


def made(*, copied: bool) -> list[Call]:
    """A target that is made, cloned into in vain, and then perhaps written by write(2)."""
    target = ("/t/a",)
    return [
        Call("create", 1, "openat", target, 1, "", 3),
        Call("clone", 1, "ioctl", ("/s/a", "/t/a"), 1, "", None, "EOPNOTSUPP"),
        *([Call("copy", 1, "pwrite64", target, 1, "", 10)] if copied else []),
    ]


def test_a_copy_by_writes_is_known_by_its_target() -> None:
    edge = ("linux/clone/clone-file/unsupported", "real")
    assert list(edges(made(copied=True), REFERENCE, 0)) == [edge]
    other = [*made(copied=False), Call("copy", 1, "write", ("/t/b",), 1, "", 10)]
    assert list(edges(other, REFERENCE, 0)) == [(f"{edge[0]} -> nothing", "real")]


def test_a_file_without_data_that_was_made_for_a_clone_is_copied() -> None:
    edge = ("linux/clone/clone-file/unsupported", "real")
    calls = made(copied=False)
    assert list(edges(calls, REFERENCE, 0, has_no_data="/s/a".__eq__)) == [edge]
    assert list(edges(calls, REFERENCE, 0)) == [(f"{edge[0]} -> nothing", "real")]


def test_a_file_that_is_empty_or_one_hole_has_no_data(tmp_path: pathlib.Path) -> None:
    for name, size in (("empty", 0), ("hole", 1 << 20)):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    (tmp_path / "full").write_bytes(b"x")
    found = {name: _has_no_data(str(tmp_path / name)) for name in ("empty", "hole", "full", "gone")}
    assert found == {"empty": True, "hole": True, "full": False, "gone": False}
    assert not _has_no_data(str(tmp_path))


def test_a_mode_that_was_not_even_tried_is_told() -> None:
    assert uv("copy a", "copy b", mode=LinkMode.CLONE) == [
        ("linux/clone/clone-file/untried -> copy", "real")
    ]
    assert uv("copy a", mode=LinkMode.COPY) == []
    assert uv(mode=LinkMode.CLONE) == []


PROGRAM = """
import os, shutil, sys
def copy(source, target):
    with open(source, "rb") as reading, open(target, "wb") as writing:
        shutil.copyfileobj(reading, writing)
mode, source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
for name in os.listdir(source):
    try:
        os.link(f"{source}/{name}", f"{target}/{name}")
    except OSError:
        %s(f"{source}/{name}", f"{target}/{name}")
"""

SUITE = """
def test_it(linkmode_layout, link_mode, linkmode_linker):
    for name in "ab":
        (linkmode_layout.source / name).write_bytes(bytes(100_000))
    linkmode_linker.link(linkmode_layout.source, linkmode_layout.target, link_mode)

def test_fault(linkmode_faults, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_bytes(bytes(100_000))
    linkmode_faults.run(
        [PYTHON, "-I", PROGRAM, "hardlink", tmp_path / "s", tmp_path / "t"],
        faults=["hardlink:EMLINK"],
    )
"""


def watched(pytester: pytest.Pytester, run: Run, text: str, *options: str) -> pytest.RunResult:
    """Run the suite over a program, held against the policy of uv."""
    program = pytester.path / "program.py"
    program.write_text(text)
    pytester.makepyfile(f"PYTHON, PROGRAM = {sys.executable!r}, {str(program)!r}\n{SUITE}")
    return run(
        f"--linkmode-layout={ACROSS}",
        "--linkmode-namespace=host",
        f"--linkmode-linker=hardlink={sys.executable} -I {program} {{mode}} {{source}} {{target}}",
        "--linkmode-policy=uv",
        "-k",
        "hardlink or fault",
        *options,
    )


def witnessed(pytester: pytest.Pytester, run: Run, fallback: str) -> dict[str, dict[str, object]]:
    """Run the suite over a program with this fallback; return the edges in its report."""
    result = watched(pytester, run, PROGRAM % fallback, "--linkmode-report=r.json")
    result.assert_outcomes(passed=2, deselected=3)
    report = json.loads((pytester.path / "r.json").read_text())
    assert report["policy"]["name"] == "uv"
    return {name: report["union"][name] for name in ("edges", "unknown_edges")}


@needs_supervision
def test_a_program_is_held_against_its_policy(inside: Run, pytester: pytest.Pytester) -> None:
    found = witnessed(pytester, inside, "copy")
    taken = {edge: each["proof"] for edge, each in found["edges"].items() if each["proof"]}  # type: ignore[index]
    assert taken == {
        "linux/hardlink/hardlink/cross-device/initial": "real",
        "linux/hardlink/hardlink/too-many-links/initial": "injected",
    }
    assert found["unknown_edges"] == {}


@needs_supervision
def test_a_fallback_of_no_policy_is_reported(
    inside: Run, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    found = witnessed(pytester, inside, "os.symlink")
    assert set(found["unknown_edges"]) == {
        "linux/hardlink/hardlink/cross-device -> symlink",
        "linux/hardlink/hardlink/too-many-links -> symlink",
    }
    assert "cross-device -> symlink  taken, but not an edge of uv" in capsys.readouterr().out


@needs_supervision
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "worker"])
def test_what_was_closed_to_a_program_is_noted_once(
    inside: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("xdist")
    io_uring_setup = "import ctypes; ctypes.CDLL(None).syscall(425, 1, None)"
    result = watched(pytester, inside, io_uring_setup + PROGRAM % "copy", *workers)
    (noted,) = (line for line in result.stdout.lines if "io_uring_setup" in line)
    assert noted.startswith(f"{os.path.basename(sys.executable)}: io_uring_setup: ")
    assert noted.endswith("answered with ENOSYS")
