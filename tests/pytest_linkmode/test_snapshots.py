"""What changed between two pictures of a tree, in sentences."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from pytest_linkmode.samples import Directory, File, Symlink, write_tree
from pytest_linkmode.snapshots import changes, snapshot

ROWS = (File("a/file", 5000), File("run", 10, 0o755), Symlink("link", "a/file"), Directory("empty"))


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    write_tree(tmp_path / "tree", ROWS)
    return tmp_path / "tree"


def test_a_tree_that_was_only_looked_at_has_not_changed(tree: pathlib.Path) -> None:
    assert changes(snapshot(tree), snapshot(tree)) == []


def rewrite(tree: pathlib.Path) -> None:
    before = (tree / "run").stat()
    (tree / "run").write_bytes(b"other bytes")
    os.utime(tree / "run", ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(tree: pathlib.Path) -> None:
    (tree / "run").rename(tree / "a/run")
    (tree / "a/run").rename(tree / "run")
    (tree / "new").write_bytes((tree / "run").read_bytes())
    (tree / "new").chmod(0o755)
    os.utime(tree / "new", ns=(0, (tree / "run").stat().st_mtime_ns))
    (tree / "new").replace(tree / "run")


def relink(tree: pathlib.Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rewrite, "'run' has another content"),
        (swap, "'run' has another inode"),
        pytest.param(
            relink,
            "'link' has another content: a/file, now elsewhere",
            marks=pytest.mark.faked("symlinks"),
        ),
        (lambda tree: (tree / "run").chmod(0o700), "'run' has another permissions"),
        (lambda tree: os.utime(tree / "empty", ns=(1, 1)), "'empty' has another mtime"),
        (lambda tree: (tree / "run").unlink(), "'run' is gone"),
        (lambda tree: (tree / "a/new").touch(), "'a/new' is new"),
    ],
)
def test_every_change_is_told(
    tree: pathlib.Path, change: Callable[[pathlib.Path], None], said: str
) -> None:
    before = snapshot(tree)
    change(tree)
    assert any(sentence.startswith(said) for sentence in changes(before, snapshot(tree)))


def test_what_may_change_is_not_told(tree: pathlib.Path) -> None:
    before = snapshot(tree)
    (tree / "a/new").touch()
    assert changes(before, snapshot(tree), but={"mtime"}, added=False) == []
