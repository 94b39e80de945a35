"""The main job from its command line to its exit status, on a small wheel."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, registry
from pytest_linkmode.layouts import LayoutSpec, Placed, Workshop
from scripts import matrix, wheels
from scripts.matrix import AS_EXPECTED, CANNOT, DIFFERS

MakeWheel = Callable[[Path, str, dict[str, tuple[bytes, int]]], wheels.Pin]

LAYOUT = "disk"
"""The one layout that every machine and every user has: what the temporary directory lies on."""


class Job:
    """The main job with its state in a directory of the test, and what came of it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.json = root / "out" / "matrix.json"
        self.out = self.err = ""
        self._capsys = capsys

    def run(self, *arguments: str) -> int:
        self.json.parent.mkdir(exist_ok=True)
        status = matrix.main([*arguments, "--json", str(self.json)])
        self.out, self.err = self._capsys.readouterr()
        return status

    @property
    def data(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.json.read_text())
        return found

    @property
    def cells(self) -> list[dict[str, object]]:
        cells = self.data["cells"]
        assert isinstance(cells, list)
        return cells


@pytest.fixture
def job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_wheel: MakeWheel,
) -> Job:
    pin = make_wheel(
        tmp_path / "wheels",
        "one",
        {
            "one/__init__.py": (b"", 0o100644),
            "one/data": (os.urandom(100_000), 0o100644),
            "one/run.sh": (b"#!/bin/sh\n", 0o100755),
        },
    )
    pins = tmp_path / "wheels.txt"
    pins.write_text(pin.requirement + "\n")
    monkeypatch.setattr(wheels.read_pins, "__kwdefaults__", {"quick": False, "path": str(pins)})
    monkeypatch.setattr(matrix, "WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setattr(matrix, "IMAGES", str(tmp_path / "images"))
    # Other tests may be looking at what they left behind on purpose.
    monkeypatch.setattr(registry, "clean", lambda: ())
    return Job(tmp_path, capsys)


def test_every_mode_of_a_layout_is_a_cell_that_is_as_expected(job: Job) -> None:
    assert job.run("--layout", LAYOUT) == AS_EXPECTED
    assert [cell["mode"] for cell in job.cells] == ["clone", "hardlink", "symlink", "copy"]
    assert {cell["layout"] for cell in job.cells} == {LAYOUT}
    assert all(cell["ok"] and cell["files"] == 3 for cell in job.cells)
    assert job.data["ok"] is True
    assert "4 cells as expected: 1 layout, 12 outcomes of files proven" in job.out


def test_modes_can_be_chosen_and_reflink_is_clone(job: Job) -> None:
    assert job.run("--layout", LAYOUT, "--modes", "reflink,copy") == AS_EXPECTED
    assert [cell["mode"] for cell in job.cells] == ["clone", "copy"]


@pytest.mark.linkmode(layout=["btrfs:tmpfs"])
def test_a_cross_device_layout_ends_in_copies_by_reported_fallbacks(
    job: Job, linkmode_layout: object
) -> None:
    assert job.run("--layout", "btrfs:tmpfs", "--modes", "clone,hardlink") == AS_EXPECTED
    assert [cell["expected"] for cell in job.cells] == ["copy", "copy"]
    assert [cell["happened"] for cell in job.cells] == [{"copy": 3}, {"copy": 3}]
    clone, hardlink = (cell["fallbacks"] for cell in job.cells)
    assert clone == ["linux/clone/clone-file/cross-device"]
    assert hardlink == ["linux/hardlink/hardlink/cross-device"]


def test_nothing_is_left_of_what_was_linked(job: Job) -> None:
    before = sorted(os.listdir(job.root / "wheels"))
    assert job.run("--layout", LAYOUT, "--modes", "copy") == AS_EXPECTED
    tree = [name for name in os.listdir(job.root / "wheels") if name.startswith("tree-")]
    assert sorted(os.listdir(job.root / "wheels")) == sorted([*before, *tree])
    assert len(tree) == 1
    assert os.listdir(job.root / "out") == ["matrix.json"]
    assert not (job.root / "images").exists()


def test_a_linker_that_copies_and_calls_it_hardlink_is_found_out(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(source: str, target: str, *, mode: LinkMode) -> LinkReport:
        shutil.copytree(source, target)
        return LinkReport(mode, {mode: 3}, ())

    monkeypatch.setattr(matrix, "link_tree", lie)
    assert job.run("--layout", LAYOUT, "--modes", "hardlink,copy") == DIFFERS
    assert [cell["ok"] for cell in job.cells] == [False, True]
    assert "DIFFERS" in job.out
    assert "1 of 2 cells not as expected" in job.out
    assert "one/data: copy, not hardlink" in job.out


def test_a_linker_that_fails_is_a_cell_that_differs_and_the_others_still_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = link_tree

    def fail(source: str, target: str, *, mode: LinkMode) -> LinkReport:
        if mode is LinkMode.HARDLINK:
            raise LinkError("cannot link one/data", why="the disk is full")
        return honest(source, target, mode=mode)

    monkeypatch.setattr(matrix, "link_tree", fail)
    assert job.run("--layout", LAYOUT, "--modes", "hardlink,copy") == DIFFERS
    assert [cell["ok"] for cell in job.cells] == [False, True]
    assert "cannot link one/data: the disk is full" in job.out


def test_a_directory_that_is_there_serves_as_the_filesystem_that_it_is_on(
    job: Job, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    assert job.run("--layout", "disk", "--modes", "copy", "--dir", f"disk={here}") == AS_EXPECTED
    assert os.listdir(here) == []


def test_directories_are_read_from_the_environment_as_well() -> None:
    found = matrix.environment_directories(
        {"LINKMODE_DIR_XFS_NOREFLINK": "/mnt/x", "LINKMODE_DIR_BTRFS": "", "HOME": "/root"}
    )
    assert found == (("xfs-noreflink", "/mnt/x"),)


@pytest.mark.parametrize("text", ["btrfs", "=/tmp", "btrfs=/no/such/directory"])
def test_a_directory_that_is_not_there_is_refused(
    job: Job, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        job.run("--dir", text)
    assert caught.value.code == CANNOT
    assert "write NAME=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layout", "btrfs:floppy"], "floppy"),
        (["--fs", "btrsf"], "btrfs"),
        (["--layout", "tmpfs+nothing"], "nothing"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_before_anything_is_made(
    job: Job, arguments: Sequence[str], said: str
) -> None:
    assert job.run(*arguments) == CANNOT
    assert "error: " in job.err
    assert said in job.err
    assert not job.json.exists()


def test_a_place_for_the_json_that_cannot_be_is_refused_before_all_the_work(job: Job) -> None:
    job.json = job.root / "wheels.txt" / "matrix.json"
    assert matrix.main(["--layout", LAYOUT, "--json", str(job.json)]) == CANNOT
    assert matrix.main(["--layout", LAYOUT, "--json", str(job.root)]) == CANNOT


def test_a_full_disk_is_an_error_and_nothing_stays(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: str, **_: object) -> None:
        os.makedirs(target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    monkeypatch.setattr(shutil, "copytree", fail)
    here = tmp_path / "here"
    here.mkdir()
    assert job.run("--layout", "disk", "--dir", f"disk={here}") == CANNOT
    assert "No space left on device" in job.err
    assert os.listdir(here) == []


def test_an_unknown_mode_is_refused_with_those_that_are_known(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        job.run("--modes", "junction")
    assert caught.value.code == CANNOT
    assert "clone, hardlink, symlink, copy" in capsys.readouterr().err


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make a machine on which these filesystems cannot be had."""
    real = Workshop.place

    def place(self: Workshop, spec: LayoutSpec) -> Placed:
        for name in (spec.source, spec.target):
            if name in names:
                raise Unavailable(
                    f"{name} cannot be had here",
                    checked=["mkfs: not found"],
                    mends=["install it", "run as root"],
                )
        return real(self, spec)

    apart = matrix.distinct

    def distinct(
        workshop: Workshop, specs: Sequence[LayoutSpec]
    ) -> tuple[dict[str, str], set[str]]:
        left = [spec for spec in specs if not {spec.source, spec.target} & {*names}]
        same, found = apart(workshop, left)
        return same, {*found, *names}

    monkeypatch.setattr(Workshop, "place", place)
    monkeypatch.setattr(matrix, "distinct", distinct)


def test_what_was_asked_for_by_name_and_cannot_be_had_is_an_error(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "tmpfs")
    assert job.run("--layout", f"{LAYOUT},tmpfs") == CANNOT
    assert "tmpfs was asked for, but tmpfs cannot be had here" in job.err
    assert "mkfs: not found" in job.err
    assert "run as root" in job.err


def test_without_a_wish_what_cannot_be_had_is_told_and_the_rest_is_done(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, *(name for name in FILESYSTEMS if name != LAYOUT))
    assert job.run("--modes", "copy") == AS_EXPECTED
    assert {cell["layout"] for cell in job.cells} <= {LAYOUT, f"{LAYOUT}+bind"}
    assert "Not on this machine:" in job.out
    assert "To add them:\n  - install it\n  - run as root\n" in job.out
    unavailable = job.data["unavailable"]
    assert isinstance(unavailable, list)
    assert "btrfs" in {gap["layout"] for gap in unavailable}


def test_a_place_of_the_machine_on_the_same_filesystem_as_another_is_linked_once(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, *(name for name in FILESYSTEMS if name not in ("disk", "home")))
    for name in ("disk", "home"):
        (tmp_path / name).mkdir()
    both = [f"--dir={name}={tmp_path / name}" for name in ("disk", "home")]
    assert job.run("--modes", "copy", *both) == AS_EXPECTED
    assert "home is left out, being the same filesystem as disk" in job.err
    assert "home" not in {cell["layout"] for cell in job.cells}
    assert job.run("--modes", "copy", "--layout", "home", *both) == AS_EXPECTED
    assert {cell["layout"] for cell in job.cells} == {"home"}


def test_a_machine_that_can_make_nothing_at_all_is_no_success(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, *FILESYSTEMS)
    assert job.run() == CANNOT
    assert "Nothing was linked" in job.out


def test_an_interrupted_run_removes_what_it_made_and_says_so(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(source: str, target: str, *, mode: LinkMode) -> LinkReport:
        shutil.copytree(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(matrix, "link_tree", interrupt)
    here = tmp_path / "here"
    here.mkdir()
    assert job.run("--layout", "disk", "--dir", f"disk={here}") == matrix.INTERRUPTED
    assert "interrupted" in job.err
    assert os.listdir(here) == []
    assert not job.json.exists()


def test_what_a_killed_run_left_behind_is_removed_and_told(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [
        registry.Finding("tree", "/tmp/one", 17, registry.UNDONE),
        registry.Finding("tree", "/tmp/two", 18, registry.KEPT, "another inode"),
    ]
    monkeypatch.setattr(registry, "clean", lambda: left)
    assert job.run("--layout", LAYOUT, "--modes", "copy") == AS_EXPECTED
    assert "process 17, which is gone: /tmp/one (removed)" in job.err
    assert "process 18, which is gone: /tmp/two (kept, another inode)" in job.err


def test_wheels_that_cannot_be_had_are_an_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise wheels.WheelsError("no index")

    monkeypatch.setattr(wheels, "download", refuse)
    for wheel in (job.root / "wheels").glob("*.whl"):
        wheel.unlink()
    assert job.run("--layout", LAYOUT) == CANNOT
    assert "error: no index" in job.err


def test_the_images_are_in_memory_only_where_there_is_plenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "IMAGES", str(tmp_path / "images"))
    tree = wheels.Tree("/somewhere", (), 1, 1, 200 << 20)
    specs = [LayoutSpec("btrfs", "btrfs"), LayoutSpec("btrfs", "tmpfs")]
    monkeypatch.setattr(matrix, "free_memory", lambda: 8 << 30)
    assert matrix.settings_for(tree, specs, {}).image_dir is None
    assert not (tmp_path / "images").exists()
    monkeypatch.setattr(matrix, "free_memory", lambda: 1 << 30)
    settings = matrix.settings_for(tree, specs, {})
    assert settings.image_dir == str(tmp_path / "images")
    assert os.path.isdir(settings.image_dir)
    assert settings.image_size >= 5 * tree.bytes


def test_free_memory_is_a_number_of_bytes_that_this_machine_can_have() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < matrix.free_memory() <= physical
