"""What the content does not show: what the files of the target are."""

import os

import pytest

from pytest_linkmode import assert_linked


@pytest.mark.linkmode(modes=["clone", "hardlink", "copy"])
def test_a_tree_is_restored_as_well_as_the_filesystems_can(
    cache_of, linkmode_layout, link_mode, linkmode_tree
):
    linkmode_tree(linkmode_layout.source / "tree")
    cache = cache_of(linkmode_layout.source, link_mode.value)
    cache.restore("tree", linkmode_layout.target / "tree")
    assert_linked(
        linkmode_layout.source / "tree",
        linkmode_layout.target / "tree",
        linkmode_layout.expect(link_mode),
    )


def test_one_file_that_cannot_be_linked_is_the_only_copy(
    cache_of, linkmode_fs, linkmode_tree, linkmode_faults
):
    source, target = linkmode_fs.path / "tree", linkmode_fs.path / "target"
    linkmode_tree(source)
    cache = cache_of(linkmode_fs.path, "hardlink")
    linkmode_faults.run(
        lambda: cache.restore("tree", target), faults=["hardlink:EMLINK:path=*/ns/beta/core.py"]
    )
    for file in sorted(source.rglob("*")):
        if file.is_file() and not file.is_symlink():
            place = file.relative_to(source)
            linked = os.path.samefile(file, target / place)
            assert linked == (place.as_posix() != "ns/beta/core.py"), place


@pytest.mark.linkmode(layout=["btrfs+too-many-links"], modes=["hardlink"])
def test_files_with_too_many_names_do_not_cost_the_others_theirs(
    cache_of, linkmode_layout, link_mode, linkmode_tree
):
    layout = linkmode_layout
    linkmode_tree(layout.source)
    layout.seal(region="package")
    cache = cache_of(layout.source.parent, link_mode.value)
    with layout.acting():
        cache.restore(layout.source.name, layout.target)
    assert_linked(
        layout.source,
        layout.target,
        layout.expected_tree(link_mode),
        existed=layout.existed,
        ignore=layout.strangers,
    )
