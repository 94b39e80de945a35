"""A cell of the matrix believes the disk: whatever is not as it should be makes it differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from linker import LinkMode, LinkReport, Transition
from linker.conditions import Condition, Primitive
from linker.policy import Edge
from pytest_linkmode.capabilities import FIXED_PERMISSIONS
from pytest_linkmode.evidence import evidence_tree
from scripts import cells
from scripts.cells import Cell

FILES = {"__init__.py": b"", "a/data": os.urandom(70_000), "a/b/run": b"#!/bin/sh\n"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "a/b/run").chmod(0o755)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def report(mode: LinkMode, ended: LinkMode | None = None, files: int = len(FILES)) -> LinkReport:
    """Return what an honest linker says of the tree, requested in `mode`."""
    ended = ended or mode
    edge = Edge("linux", mode, Primitive.HARDLINK, Condition.CROSS_DEVICE, ended)
    fell = (Transition(edge, "a/data", None),) if ended is not mode else ()
    return LinkReport(mode, {ended: files}, fell)


def cell_of(
    source: Path,
    target: Path,
    mode: LinkMode,
    said: LinkReport | None = None,
    after: Callable[[], object] = lambda: None,
) -> Cell:
    """Judge what is on disk; `after` happens to it before anybody looks."""
    before = cells.snapshot(str(source))
    after()
    found = evidence_tree(source, target)
    changed = cells.touched(before, cells.snapshot(str(source)))
    return cells.judge("here", mode, mode, found, changed, said or report(mode))


def test_hardlinks_are_proven_by_their_inodes(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link)
    cell = cell_of(source, target, LinkMode.HARDLINK)
    assert cell.ok
    assert cell.happened == {"hardlink": 3}
    assert cell.proofs == {"same inode": 3}
    assert cell.told == ()


def test_a_copy_that_calls_itself_a_hardlink_differs(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    cell = cell_of(source, target, LinkMode.HARDLINK)
    assert not cell.ok
    assert "hardlink" not in cell.happened
    assert cell.differences == 3
    assert any(line.startswith("a/data: ") and "not hardlink" in line for line in cell.told)


def test_one_file_in_another_mode_makes_the_cell_differ(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link)
    (target / "a/data").unlink()
    shutil.copy2(source / "a/data", target / "a/data")
    cell = cell_of(source, target, LinkMode.HARDLINK)
    assert not cell.ok
    assert cell.happened["hardlink"] == 2
    assert [line.partition(":")[0] for line in cell.told] == ["a", "a/data"]


def test_other_bits_differ(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    (target / "a/b/run").chmod(0o644)
    cell = cell_of(source, target, LinkMode.COPY)
    assert cell.told == ("a/b/run: permission bits 644, not 755",)


def test_the_bits_of_a_directory_count_as_well(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    (target / "a").chmod(0o700)
    assert cell_of(source, target, LinkMode.COPY).told == ("a: permission bits 700, not 755",)


def test_bits_are_not_asked_of_a_filesystem_that_has_none(source: Path, target: Path) -> None:
    one, other = os.stat(source / "a/b/run"), os.stat(source / "a/data")
    assert [line.partition(",")[0] for line in cells.stat_differs(one, other)] != []
    fixed = cells.stat_differs(one, other, {FIXED_PERMISSIONS})
    assert not any("permission" in line for line in fixed)


def test_another_time_differs(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    os.utime(target / "a/data", (1, 1))
    cell = cell_of(source, target, LinkMode.COPY)
    assert cell.told == ("a/data: another modification time",)


def test_a_missing_file_differs_even_if_the_report_counts_it(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    (target / "a/b/run").unlink()
    cell = cell_of(source, target, LinkMode.COPY)
    assert not cell.ok
    assert any(line.startswith("a/b/run: missing") for line in cell.told)


def test_a_file_that_nobody_asked_for_differs(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    (target / "a/stage-1").touch()
    cell = cell_of(source, target, LinkMode.COPY)
    assert not cell.ok
    assert any(line.startswith("a/stage-1: ") for line in cell.told)


def test_a_touched_source_differs(source: Path, target: Path) -> None:
    shutil.copytree(source, target)

    def touch() -> None:
        (source / "a/data").chmod(0o600)
        (source / "new").touch()
        (source / "__init__.py").unlink()

    cell = cell_of(source, target, LinkMode.COPY, after=touch)
    assert {"__init__.py: gone from the source", "new: appeared in the source"} <= set(cell.told)
    assert "a/data: changed in the source" in cell.told


def test_a_report_that_claims_something_else_differs(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    lie = report(LinkMode.COPY, files=2)
    cell = cell_of(source, target, LinkMode.COPY, lie)
    assert cell.told == ("the linker's report claims copy 2 of 3 files",)


def test_a_silent_fallback_differs_and_a_reported_one_does_not(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    before = cells.snapshot(str(source))
    found = evidence_tree(source, target)
    told = cells.touched(before, before)
    honest = report(LinkMode.HARDLINK, LinkMode.COPY)
    silent = replace(honest, transitions=())

    def judged(said: LinkReport) -> Cell:
        return cells.judge("a:b", LinkMode.HARDLINK, LinkMode.COPY, found, told, said)

    assert judged(honest).ok
    assert judged(honest).fallbacks == ("linux/hardlink/hardlink/cross-device",)
    assert judged(silent).told == ("the linker's report names no fallback",)


def test_a_cell_without_files_is_not_ok(tmp_path: Path, target: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    target.mkdir()
    said = LinkReport(LinkMode.COPY, {}, ())
    assert not cell_of(empty, target, LinkMode.COPY, said).ok


def test_all_differences_are_counted_and_the_first_are_told(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(cells.SHOWN + 10):
        (source / f"{number:03}").write_bytes(b"x")
    target.mkdir()
    cell = cell_of(source, target, LinkMode.COPY, report(LinkMode.COPY, files=cells.SHOWN + 10))
    assert cell.differences == cells.SHOWN + 10
    assert len(cell.told) == cells.SHOWN
