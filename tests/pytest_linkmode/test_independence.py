"""Edit one file, read the other, take the edit back: and nothing but the change time has moved."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest

from pytest_linkmode import opening
from pytest_linkmode.evidence import is_hole
from pytest_linkmode.independence import Edit
from pytest_linkmode.snapshots import changes, snapshot


@contextmanager
def editing(path: pathlib.Path) -> Iterator[Edit]:
    descriptor = os.open(path, opening.READ_FILE)
    edit = Edit(str(path), None, descriptor)
    try:
        edit.make()
        yield edit
        edit.undo()
    finally:
        edit.close()
        os.close(descriptor)


def shows_in(edit: Edit, path: pathlib.Path) -> bool:
    os.fsync(edit.file)
    descriptor = os.open(path, opening.READ_FILE)
    try:
        return edit.shows_in(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4096, 70_000])
def test_an_edit_does_not_show_in_a_copy(tmp_path: pathlib.Path, size: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(os.urandom(size))
    second.write_bytes(first.read_bytes())
    with editing(first) as edit:
        assert edit.happened
        assert first.read_bytes() != second.read_bytes()
        assert not shows_in(edit, second)


def lseek_of_a_mac(_file: int, _position: int, _whence: int) -> int:
    """Tell of no data at all, as macOS may inside of it, and as HFS+ never knows any."""
    raise OSError(errno.ENXIO, "no data")


@pytest.mark.parametrize("content", [b"all of it", b"\0" * 20_000 + b"end", b"x" + b"\0" * 9_999])
@pytest.mark.parametrize("sparse", [False, True])
def test_on_a_mac_data_is_edited_whatever_lseek_says(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, content: bytes, *, sparse: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    size = 1 << 20 if sparse else len(content)
    for path in (first, second):
        with path.open("wb") as file:
            file.truncate(size)
            file.seek(size // 4 if sparse else 0)
            file.write(content)
    monkeypatch.setattr("pytest_linkmode.independence.HERE", "darwin")
    monkeypatch.setattr(os, "lseek", lseek_of_a_mac)
    with editing(first) as edit:
        assert edit.happened
        assert first.read_bytes() != second.read_bytes()
        assert not shows_in(edit, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", True), (b"\0" * 4096, False), (b"data", False)]
)
def test_on_a_mac_only_what_has_no_blocks_and_reads_as_nothing_is_a_hole(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, data: bytes, *, expected: bool
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(1 << 20)
    monkeypatch.setattr(import_module("pytest_linkmode.evidence"), "HERE", "darwin")
    monkeypatch.setattr(os, "lseek", lseek_of_a_mac)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        assert is_hole(file.fileno()) is expected


def test_an_edit_shows_in_another_name_of_the_file(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"bytes")
    os.link(first, second)
    with editing(first) as edit:
        assert shows_in(edit, second)


def test_the_other_file_is_read_past_the_page_cache(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    dropped = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: dropped.append(arguments[1:]))
    with editing(file) as edit:
        assert shows_in(edit, file)
    assert dropped == [(0, 0, os.POSIX_FADV_DONTNEED)]


def test_a_read_only_file_is_opened_by_its_owner_and_stays_read_only(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    file.chmod(0o444)
    before = snapshot(tmp_path)
    real = os.open

    def like_an_ordinary_user(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if flags & os.O_RDWR and not file.stat().st_mode & 0o200:
            raise PermissionError(13, os.strerror(13))
        return real(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", like_an_ordinary_user)
    with editing(file) as edit:
        assert edit.happened
        assert file.stat().st_mode & 0o777 == 0o444
    assert changes(before, snapshot(tmp_path)) == []


def test_permission_bits_that_writing_took_away_are_put_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Writing takes setuid away, but not from root, as whom tests may run.
    file = tmp_path / "file"
    file.write_bytes(os.urandom(10_000))
    file.chmod(0o4755)
    real = os.pwrite

    def write(descriptor: int, data: bytes, offset: int) -> int:
        os.fchmod(descriptor, 0o755)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    before = snapshot(tmp_path)
    with editing(file):
        assert file.stat().st_mode & 0o4000 == 0
    assert changes(before, snapshot(tmp_path)) == []


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o400, 0o4755, 0o2755])
def test_bytes_permission_bits_and_times_are_put_back(tmp_path: pathlib.Path, mode: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(10_000))
    file.chmod(mode)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    before = snapshot(tmp_path)
    with editing(file):
        assert changes(before, snapshot(tmp_path), but={"mtime"}) != []
    assert changes(before, snapshot(tmp_path)) == []


def test_holes_are_left_alone(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as out:
        os.pwrite(out.fileno(), b"data" * 1024, 1 << 20)
        os.ftruncate(out.fileno(), 4 << 20)
    blocks = file.stat().st_blocks
    with editing(file) as edit:
        assert edit.happened
    assert file.stat().st_blocks == blocks
    assert file.read_bytes() == bytes(1 << 20) + b"data" * 1024 + bytes((3 << 20) - 4096)


def test_a_file_without_any_data_cannot_be_edited(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 1 << 20)
    with editing(file) as edit:
        assert not edit.happened
    assert file.stat().st_blocks == 0


def test_an_edit_that_fails_is_kept_as_an_error_and_undone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(10_000))
    before = snapshot(tmp_path)
    real, written = os.pwrite, []

    def full_after_one(descriptor: int, data: bytes, offset: int) -> int:
        written.append(offset)
        if len(written) == 2:
            raise OSError(28, os.strerror(28))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full_after_one)
    with editing(file) as edit:
        assert edit.error is not None
        assert edit.error.errno == 28
    assert changes(before, snapshot(tmp_path)) == []
