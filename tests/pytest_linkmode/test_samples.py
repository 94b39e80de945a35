"""The sample tree has what it says, always the same."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.samples import (
    ODD_NAMES,
    SIZES,
    TREE,
    Directory,
    File,
    Symlink,
    content,
    sample_tree,
    write_tree,
)
from pytest_linkmode.snapshots import changes, snapshot


def test_it_is_written_as_the_table_says(linkmode_fs: TestFilesystem) -> None:
    top = linkmode_fs.path / "tree"
    sample_tree(top)
    for row in TREE:
        path = top / row.path
        if isinstance(row, File):
            assert path.read_bytes() == content(row)
            assert len(content(row)) == row.size
        if isinstance(row, Symlink):
            assert os.readlink(path) == row.text
        else:
            assert stat.S_IMODE(path.stat().st_mode) == row.mode, row


def test_it_is_the_same_every_time_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    sample_tree(first)
    before = os.umask(0o077)
    try:
        sample_tree(second)
    finally:
        os.umask(before)
    taken = [snapshot(first), snapshot(second)]
    for each in taken:
        del each["."]
    assert changes(taken[0], taken[1], but={"inode"}) == []


def test_it_has_the_same_names_and_bytes_whatever_the_locale(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    sample_tree(first)
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = "import sys, pytest_linkmode.samples as s; s.sample_tree(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", command, str(second)], check=True, env={**os.environ, **ascii_alone}
    )
    taken = [snapshot(first), snapshot(second)]
    for each in taken:
        del each["."]
    assert changes(taken[0], taken[1], but={"inode"}) == []


def test_it_has_the_same_names_whatever_system_a_test_pretends(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [File(name, 1, odd=True) for name in ODD_NAMES]
    write_tree(tmp_path / "first", odd)
    for system in ("darwin", "linux", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        write_tree(tmp_path / system, odd)
        assert {*os.listdir(tmp_path / system)} == {*os.listdir(tmp_path / "first")}


def test_every_file_and_directory_has_a_time_of_its_own(tmp_path: pathlib.Path) -> None:
    sample_tree(tmp_path / "tree")
    found = snapshot(tmp_path / "tree")
    del found["."]
    times = [each.mtime for each in found.values() if not stat.S_ISLNK(each.type)]
    assert len(set(times)) == len(times)
    assert all(time % 1000 for time in times)  # to the nanosecond


def test_it_has_what_linkers_stumble_over() -> None:
    files = [row for row in TREE if isinstance(row, File)]
    links = [row for row in TREE if isinstance(row, Symlink)]
    directories = [row for row in TREE if isinstance(row, Directory)]
    assert any(row.size == 0 for row in files)
    assert any(row.size > 65536 for row in files)
    assert any(row.mode & 0o111 for row in files)
    assert any(not row.mode & 0o222 for row in files)
    assert any(not row.mode & 0o222 for row in directories)
    assert any(row.holes for row in files)
    assert any(row.text.startswith("/") for row in links)
    assert any(row.text.startswith("..") for row in links)
    assert {2047, 2048, 2049} <= set(SIZES)
    parents = {os.path.dirname(row.path) for row in TREE}
    assert any(row.path not in parents for row in directories)  # an empty one
    assert {"ns/alpha", "ns/beta"} <= parents
    assert not any(row.path == "ns/__init__.py" for row in files)


def test_odd_names_hold_everything_but_slash_and_nul() -> None:
    names = [os.fsencode(name) for name in ODD_NAMES]
    assert max(len(name) for name in names) == 255
    assert any(b"\n" in name for name in names)
    assert any(b"\xff" in name for name in names)
    assert not any(b"/" in name or b"\0" in name for name in names)
    assert len({name.decode("utf-8", "replace").casefold() for name in names}) == len(names)


def test_a_tree_can_be_written_into_one_that_is_there(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path, [File("a/one", 3, 0o600)])
    write_tree(tmp_path, [File("a/two", 5), Directory("a", 0o711)])
    assert sorted(os.listdir(tmp_path / "a")) == ["one", "two"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o711


def test_a_file_that_is_there_is_never_overwritten(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path, [File("a", 3)])
    with pytest.raises(FileExistsError):
        write_tree(tmp_path, [File("a", 4)])
