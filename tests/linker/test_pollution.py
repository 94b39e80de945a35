"""What an edit of an installed file does to the file that it was linked from.

On every layout, in every mode: isolating modes leave the source as it was, sharing modes do not,
and the suite knows which. To replace a file, as editors do, reaches the source in no mode.
"""

from __future__ import annotations

import os
import stat

from linker import LinkMode, link_tree
from pytest_linkmode.layouts import Layout
from tests.linker import trees
from tests.linker.trees import File, Tree

TREE: Tree = {
    "pkg/__init__.py": File(b""),
    "pkg/small.py": File(b"answer = 42\n"),
    "pkg/data.bin": File(trees.noise(200_000)),
    "pkg/tool": File(b"#!/bin/sh\n", mode=0o755),
}
"""Files that filesystems keep in different ways: none of it, in the metadata, in extents."""


def append(path: str) -> None:
    with open(path, "ab") as writing:
        writing.write(b"appended")


def truncate(path: str) -> None:
    os.truncate(path, 1)


def overwrite(path: str) -> None:
    with open(path, "r+b") as writing:
        writing.write(b"overwritten")


def change_mode(path: str) -> None:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) ^ 0o111)


def replace(path: str) -> None:
    with open(f"{path}.new", "wb") as writing:
        writing.write(b"replaced")
    os.replace(f"{path}.new", path)


WRITING = (append, truncate, overwrite, change_mode)
"""Edits that go through to whatever file the name leads to."""


def install(layout: Layout, mode: LinkMode) -> LinkMode:
    """Link the tree on a layout; return the mode that its files ended in."""
    source, target = layout.source / "tree", layout.target / "tree"
    trees.build(str(source), TREE)
    report = link_tree(source, target, mode=mode)
    expected = layout.expect(mode)
    assert report.counts == {expected: len(TREE)}, "the suite does not know what happens here"
    return expected


def test_a_write_reaches_the_other_side_in_sharing_modes_only(
    linkmode_layout: Layout, link_mode: LinkMode
) -> None:
    ended = install(linkmode_layout, link_mode)
    source, target = str(linkmode_layout.source / "tree"), str(linkmode_layout.target / "tree")
    for edit in WRITING:
        for path in TREE:
            before = trees.snapshot(source)
            edit(f"{target}/{path}")
            after = trees.snapshot(source)
            changed = {name for name in before if before[name] != after[name]}
            assert changed == ({path} if ended.sharing else set()), edit
            append(f"{target}/{path}")  # so that there is something to lose for the next edit
    for path in TREE:
        append(f"{source}/{path}")
        with open(f"{source}/{path}", "rb") as here, open(f"{target}/{path}", "rb") as there:
            assert (here.read() == there.read()) == ended.sharing


def test_a_file_that_is_replaced_or_removed_never_reaches_the_source(
    linkmode_layout: Layout, link_mode: LinkMode
) -> None:
    install(linkmode_layout, link_mode)
    source, target = str(linkmode_layout.source / "tree"), str(linkmode_layout.target / "tree")
    before = trees.snapshot(source)
    for path in TREE:
        replace(f"{target}/{path}")
    assert trees.snapshot(source) == before
    assert {seen.content for seen in trees.snapshot(target).values()} == {b"", b"replaced"}
    trees.remove(target)
    assert trees.snapshot(source) == before


def test_what_is_mutable_is_isolated_in_every_mode(
    linkmode_layout: Layout, link_mode: LinkMode
) -> None:
    source, target = str(linkmode_layout.source / "tree"), str(linkmode_layout.target / "tree")
    trees.build(source, TREE)
    link_tree(source, target, mode=link_mode, mutable=["small.py", "pkg/d*"])
    before = trees.snapshot(source)
    for path in ("pkg/small.py", "pkg/data.bin"):
        append(f"{target}/{path}")
        change_mode(f"{target}/{path}")
    assert trees.snapshot(source) == before


def test_a_second_link_does_not_write_through_what_the_first_one_shared(
    linkmode_layout: Layout, link_mode: LinkMode
) -> None:
    """Copying over an existing hard link or symlink is how caches were overwritten."""
    install(linkmode_layout, link_mode)
    source, target = str(linkmode_layout.source / "tree"), str(linkmode_layout.target / "tree")
    other = str(linkmode_layout.source / "other")
    trees.build(other, {path: File(b"another version") for path in TREE})
    before = trees.snapshot(source)
    for mode in LinkMode:
        link_tree(other, target, mode=mode)
        assert trees.snapshot(source) == before
