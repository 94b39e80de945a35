"""assert_linked accepts what is right, and says in a table what is wrong."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable

import pytest

from linker import LinkMode, link_file, link_tree
from pytest_linkmode.assertions import (
    SHOWN,
    LinkAssertionError,
    Linked,
    Row,
    assert_linked,
    shown,
    summary,
    table,
)
from pytest_linkmode.errors import UsageError
from pytest_linkmode.evidence import evidence_tree
from pytest_linkmode.layouts import Layout
from pytest_linkmode.samples import Directory, File, Symlink, sample_tree, write_tree
from tests.windows import wine

ROWS = (
    File("package/__init__.py"),
    File("package/module.py", 9000),
    File("package/run", 5000, 0o755),
    File("top.py", 3000),
    Symlink("link", "package/module.py"),
    Directory("empty"),
)


@pytest.fixture
def trees(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A source, and a target that is a copy of it, whatever the filesystem of this machine."""
    source, target = tmp_path / "source", tmp_path / "target"
    write_tree(source, ROWS)
    link_tree(source, target, mode=LinkMode.COPY)
    return source, target


def failure(
    source: pathlib.Path, target: pathlib.Path, mode: str = "copy", **more: object
) -> LinkAssertionError:
    with pytest.raises(LinkAssertionError) as caught:
        assert_linked(source, target, mode, **more)  # type: ignore[arg-type]
    return caught.value


def only_row(source: pathlib.Path, target: pathlib.Path, mode: str = "copy") -> Row:
    error = failure(source, target, mode)
    assert len(error.rows) == 1, error
    return error.rows[0]


# --- what is right ---------------------------------------------------------------------------


@pytest.mark.faked("symlinks")
def test_every_mode_in_every_layout_is_accepted_as_what_it_ends_in(
    linkmode_layout: Layout, link_mode: LinkMode
) -> None:
    source, target = linkmode_layout.source, linkmode_layout.target
    sample_tree(source)
    link_tree(source, target, mode=link_mode)
    expected = linkmode_layout.expect(link_mode)
    linked = assert_linked(source, target, expected)
    assert linked.modes[expected.value] > linked.files / 2
    assert sum(linked.proofs.values()) == linked.files > 50
    assert linked.symlinks > 5
    for other in set(LinkMode) - {expected}:
        with pytest.raises(LinkAssertionError):
            assert_linked(source, target, other)


@pytest.mark.faked("symlinks")
def test_it_returns_what_was_proven(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    linked = assert_linked(*trees, LinkMode.COPY)
    assert isinstance(linked, Linked)
    assert (linked.mode, linked.files, linked.directories, linked.symlinks) == (
        LinkMode.COPY,
        4,
        2,
        1,
    )


@pytest.mark.faked("symlinks")
def test_what_only_the_target_has_is_not_counted_as_linked(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    source, target = trees
    (target / "stranger").touch()
    found = evidence_tree(source, target)
    assert len(found) == 8
    assert summary(found, LinkMode.COPY) == assert_linked(
        source, target, "copy", ignore=["stranger"]
    )


def test_a_mode_may_be_a_word_and_paths_may_be_text_or_bytes(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    source, target = trees
    assert assert_linked(str(source), os.fsencode(target), "copy").files == 4


def test_one_file_is_compared_like_a_tree(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path, [File("source", 5000)])
    link_file(tmp_path / "source", tmp_path / "target", mode=LinkMode.HARDLINK)
    assert assert_linked(tmp_path / "source", tmp_path / "target", "hardlink").files == 1
    error = failure(tmp_path / "source", tmp_path / "target", "copy")
    assert [(row.expected, row.found) for row in error.rows] == [("copy", "hardlink")]


def test_what_is_empty_shows_nothing(tmp_path: pathlib.Path) -> None:
    for name in ("source", "target"):
        write_tree(tmp_path / name, [])
    with pytest.raises(UsageError, match=r"(?s)source' is empty.*the right directory"):
        assert_linked(tmp_path / "source", tmp_path / "target", "clone")
    (tmp_path / "source/file").touch()
    with pytest.raises(UsageError, match="is empty"):
        assert_linked(tmp_path / "source", tmp_path / "target", "clone", ignore=["file"])
    (tmp_path / "source/file").unlink()
    (tmp_path / "source/inside").mkdir()
    (tmp_path / "target").rmdir()
    link_tree(tmp_path / "source", tmp_path / "target", mode="copy")
    assert assert_linked(tmp_path / "source", tmp_path / "target", "copy").directories == 1


def test_mutable_files_must_be_copies(tmp_path: pathlib.Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write_tree(source, [File("a/RECORD", 5000), File("a/module.py", 5000), File("b/RECORD", 5000)])
    link_tree(source, target, mode=LinkMode.HARDLINK, mutable=["RECORD"])
    assert assert_linked(source, target, "hardlink", mutable=["RECORD"]).modes["hardlink"] == 1
    error = failure(source, target, "hardlink", mutable=["a/*"])
    assert [(row.path, row.expected) for row in error.rows] == [
        ("a/module.py", "copy"),
        ("b/RECORD", "hardlink"),
    ]


def test_names_can_be_left_out_on_both_sides(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    source, target = trees
    (target / ".lock").touch()
    (target / "top.py").unlink()
    assert (
        assert_linked(source, target, "copy", ignore=[".lock", "top.*"], existed=["."]).files == 3
    )


def test_directories_that_were_there_keep_their_own_bits_and_times(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    source, target = trees
    (target / "package").chmod(0o700)
    os.utime(target / "empty", ns=(1, 1))
    assert [row.path for row in failure(source, target).rows] == ["empty", "package"]
    assert_linked(source, target, "copy", existed=["package", "empty"])


@pytest.mark.parametrize("left", [(), ("permissions",), ("mtime",)])
def test_what_of_the_stat_is_compared_can_be_chosen(
    trees: tuple[pathlib.Path, pathlib.Path], left: tuple[str, ...]
) -> None:
    source, target = trees
    (target / "top.py").chmod(0o600)
    os.utime(target / "package/run", ns=(1, 1))
    wrong = {"permissions": "top.py", "mtime": "package/run"}
    if left:
        error = failure(source, target, stat=left)
        assert [row.path for row in error.rows] == [wrong[word] for word in left]
    else:
        assert_linked(source, target, "copy", stat=left)


# --- what is wrong ---------------------------------------------------------------------------


def remove(target: pathlib.Path) -> None:
    (target / "top.py").unlink()


def add(target: pathlib.Path) -> None:
    (target / "more.py").write_bytes(b"more")


def alter(target: pathlib.Path) -> None:
    status = (target / "top.py").stat()
    (target / "top.py").write_bytes(bytes(3000))
    os.utime(target / "top.py", ns=(0, status.st_mtime_ns))


def cut(target: pathlib.Path) -> None:
    os.truncate(target / "top.py", 10)


def make_unreadable(target: pathlib.Path) -> None:
    (target / "package/run").chmod(0o644)


def age(target: pathlib.Path) -> None:
    os.utime(target / "top.py", ns=(0, (target / "top.py").stat().st_mtime_ns // 10**9 * 10**9))


def retype(target: pathlib.Path) -> None:
    (target / "top.py").unlink()
    (target / "top.py").mkdir()


def bend(target: pathlib.Path) -> None:
    wine.need("symlinks")
    (target / "link").unlink()
    (target / "link").symlink_to("top.py")


def follow(target: pathlib.Path) -> None:
    wine.need("symlinks")
    (target / "link").unlink()
    shutil.copy2(target / "package/module.py", target / "link")


def fold(target: pathlib.Path) -> None:
    (target / "empty").rmdir()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove, Row("top.py", "file", "nothing", "missing", "")),
        (add, Row("more.py", "nothing", "file", "not in the source", "")),
        (alter, Row("top.py", "copy", "no link", "different bytes", "")),
        (cut, Row("top.py", "copy", "no link", "different bytes", "")),
        (make_unreadable, Row("package/run", "permissions 0755", "permissions 0644", "stat", "")),
        (
            age,
            Row("top.py", "mtime 1499999997.123447786", "mtime 1499999997.000000000", "stat", ""),
        ),
        (retype, Row("top.py", "copy", "directory", "different types", "")),
        (bend, Row("link", "symlink", "symlink", "another link target", "")),
        (follow, Row("link", "symlink", "file", "different types", "")),
        (fold, Row("empty", "directory", "nothing", "missing", "")),
    ],
)
def test_every_difference_is_a_row(
    trees: tuple[pathlib.Path, pathlib.Path],
    spoil: Callable[[pathlib.Path], None],
    expected: Row,
) -> None:
    source, target = trees
    spoil(target)
    row = only_row(source, target)
    assert row.why
    assert row == Row(expected.path, expected.expected, expected.found, expected.proof, row.why)


def test_a_missing_directory_is_one_row_that_counts_what_was_in_it(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    source, target = trees
    shutil.rmtree(target / "package")
    (target / "package-1.0").mkdir()
    rows = failure(source, target).rows
    assert [(row.path, row.found) for row in rows] == [
        ("package", "nothing"),
        ("package-1.0", "directory"),
    ]
    assert rows[0].why.endswith("nor the 3 names below it")


def test_a_target_that_is_not_there_is_one_row(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    source, target = trees
    row = only_row(source, target / "nowhere")
    assert (row.path, row.expected, row.found) == (".", "directory", "nothing")
    assert only_row(source, target / "top.py").found == "file"


def test_a_clone_that_was_asked_for_and_is_a_copy_fails(linkmode_layout: Layout) -> None:
    source, target = linkmode_layout.source, linkmode_layout.target
    write_tree(source, [File("empty"), File("inline", 100), File("large", 100_000)])
    link_tree(source, target, mode=LinkMode.COPY)
    error = failure(source, target, "clone")
    rows = {row.path: row for row in error.rows}
    assert rows["large"].found == "copy"
    # Small files pass only where they could have been cloned.
    assert ("empty" in rows) is ("reflink" not in linkmode_layout.can)


# --- how it is told --------------------------------------------------------------------------


@pytest.mark.faked("symlinks")
def test_the_message_is_a_sentence_and_an_aligned_table(
    trees: tuple[pathlib.Path, pathlib.Path],
) -> None:
    source, target = trees
    (target / "top.py").unlink()
    (target / "package/run").chmod(0o600)
    lines = str(failure(source, target)).splitlines()
    assert lines == [
        f"'{target}' is not a copy of '{source}': 2 names of 7 are wrong",
        "",
        "path         expected          found             proof    why",
        "package/run  permissions 0755  permissions 0600  stat     "
        "the file has other permission bits than its source",
        "top.py       file              nothing           missing  "
        "the source has a file that the target does not have",
    ]


def test_a_long_table_is_cut_and_the_rest_counted(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "source", [File(f"{number:03}", 10) for number in range(200)])
    write_tree(tmp_path / "target", [])
    error = failure(tmp_path / "source", tmp_path / "target")
    assert len(error.rows) == 200
    assert len(str(error).splitlines()) == SHOWN + 4
    assert str(error).endswith("... and 180 rows more")


def test_names_that_are_no_text_are_told_in_text(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "source", [File(os.fsdecode(b"caf\xe9\n\x1b[31m"), 10), File("é", 10)])
    write_tree(tmp_path / "target", [])
    message = str(failure(tmp_path / "source", tmp_path / "target"))
    assert r"caf\xe9\n\x1b[31m" in message
    assert "é" in message
    assert message.encode()


@pytest.mark.parametrize(
    ("name", "seen"),
    [("plain", "plain"), ("a b", "a b"), ("é\t", "é\\t"), ("\udcff", "\\xff")],
)
def test_a_name_is_shown_in_one_line(name: str, seen: str) -> None:
    assert shown(name) == seen


def test_long_paths_lose_their_middle() -> None:
    row = Row("d/" * 100 + "name.py", "clone", "copy", "different extents", "why")
    lines = table([row]).splitlines()
    assert max(len(line) for line in lines) < 110
    assert "..." in lines[1]
    assert "name.py" in lines[1]


def test_pytest_shows_the_callers_line_and_not_ours(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_linkmode import assert_linked

        def test_it(tmp_path):
            (tmp_path / "source").write_bytes(b"bytes")
            assert_linked(tmp_path / "source", tmp_path / "target", "copy")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LinkAssertionError: *is not a copy of*", "*source*nothing*"])
    result.stdout.no_fnmatch_line("*def assert_linked*")


# --- what cannot be asked --------------------------------------------------------------------


def test_what_cannot_be_right_is_no_failed_assertion(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "source", [])
    with pytest.raises(UsageError, match="'nowhere' does not exist"):
        assert_linked("nowhere", tmp_path, "copy")
    with pytest.raises(UsageError, match="clone, hardlink, symlink, copy"):
        assert_linked(tmp_path / "source", tmp_path, "teleport")
    with pytest.raises(UsageError, match="the same directory"):
        assert_linked(tmp_path / "source", tmp_path / "source", "copy")
    with pytest.raises(UsageError, match="permissions, mtime"):
        assert_linked(tmp_path / "source", tmp_path, "copy", stat=["owner"])
