"""The source stays as it was: while it is linked, and in isolating modes for ever after."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable, Mapping

import pytest

from linker.modes import LinkMode
from pytest_linkmode.conformance.cases import Case, assert_unchanged
from pytest_linkmode.samples import File, write_tree
from pytest_linkmode.snapshots import changes, snapshot

EDITED = 0o600

Edit = Callable[[pathlib.Path], None]


def append(path: pathlib.Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: pathlib.Path) -> None:
    os.truncate(path, 10)


def overwrite(path: pathlib.Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\0other bytes\0")


def chmod(path: pathlib.Path) -> None:
    path.chmod(EDITED)


def replace(path: pathlib.Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"another file")
    new.replace(path)


def remove(path: pathlib.Path) -> None:
    path.unlink()


EDITS_OF_A_FILE: Mapping[str, Edit] = {
    edit.__name__: edit for edit in (append, truncate, overwrite, chmod)
}
EDITS_OF_A_NAME: Mapping[str, Edit] = {edit.__name__: edit for edit in (replace, remove)}

FILES = (
    File("package/small.py", 300),
    File("package/module.py", 9000),
    File("package/large.bin", 300_000),
)


@pytest.fixture
def installed(case: Case) -> Case:
    write_tree(case.source, FILES)
    case.linker.prepare(case.source)
    case.link()
    return case


def test_linking_changes_nothing_in_the_source(sample: Case) -> None:
    sample.layout.seal()
    before = snapshot(sample.source)
    sample.link()
    assert_unchanged("the source", before, snapshot(sample.source))
    assert sample.layout.afterwards(sample.mode) == ""


@pytest.mark.parametrize("edit", EDITS_OF_A_FILE.values(), ids=EDITS_OF_A_FILE)
@pytest.mark.parametrize("file", FILES, ids=[file.path for file in FILES])
def test_an_edit_of_an_installed_file_reaches_the_source_in_sharing_modes_only(
    installed: Case, edit: Edit, file: File
) -> None:
    before = snapshot(installed.source)
    expected = installed.modes[file.path]
    refused = None
    try:
        edit(installed.target / file.path)
    except OSError as error:
        refused = error
    if refused is not None:
        # A source that nobody can change cannot be changed through a symlink either.
        assert expected is LinkMode.SYMLINK, refused
        assert not os.access(installed.source / file.path, os.W_OK), refused
        expected = LinkMode.COPY
    elif edit is chmod and stat.S_IMODE((installed.target / file.path).stat().st_mode) != EDITED:
        pytest.skip(f"not applicable: permission bits are not kept in {installed.layout.name}")
    touched = changes(before, snapshot(installed.source), but={"mtime"})
    assert bool(touched) is expected.sharing, touched


@pytest.mark.parametrize("edit", EDITS_OF_A_NAME.values(), ids=EDITS_OF_A_NAME)
def test_another_file_under_an_installed_name_never_reaches_the_source(
    installed: Case, edit: Edit
) -> None:
    before = snapshot(installed.source)
    for file in FILES:
        edit(installed.target / file.path)
    assert_unchanged("the source", before, snapshot(installed.source))
