"""Tests as most caches have them: what was restored has the right content."""

import pytest


@pytest.mark.parametrize("mode", ["clone", "hardlink", "copy"])
def test_a_tree_is_restored(cache_of, mode, tmp_path):
    tree = tmp_path / "cache" / "tree"
    tree.mkdir(parents=True)
    (tree / "one").write_text("one")
    (tree / "two").write_text("two")
    cache_of(tmp_path / "cache", mode).restore("tree", tmp_path / "target")
    assert (tmp_path / "target" / "one").read_text() == "one"
    assert (tmp_path / "target" / "two").read_text() == "two"
