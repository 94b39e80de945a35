"""Directories as they were scanned; ways through trees that hold a bounded number of handles."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from linker.conditions import Primitive
from linker.platforms.base import Failed
from linker.tree import (
    Lost,
    Node,
    Reserved,
    SpecialFile,
    Trail,
    absolute,
    fold,
    scan,
    text_of,
    walk,
)
from tests.linker import trees
from tests.linker.seams import Tap, descriptors, in_child
from tests.linker.trees import Directory, File, Symlink, Tree

CHAIN = [f"d{number}" for number in range(9)]
"""Names of directories, each inside the one before."""

NESTED: Tree = {"a/b/c": Directory(), "a/b/d": Directory(), "a/e": Directory(), "f": Directory()}


def inode(*names: str) -> int:
    return os.stat(os.path.join(*names)).st_ino


class Way:
    """A tree on disk, a handle of its root, and the platform's calls."""

    def __init__(self, path: str, tree: Tree) -> None:
        self.path = path
        trees.build(path, tree)
        self.tap = Tap()
        self.platform = self.tap.platform
        self.root = os.open(path, os.O_RDONLY)

    def scanned(self, tree: Tree) -> dict[str, Node]:
        """Return the nodes of a tree by path."""
        nodes = {"": Node("", None)}
        for path in sorted(tree):
            for above in (*trees.parents(path), path):
                parent, _, name = above.rpartition("/")
                if above not in nodes:
                    nodes[above] = Node(name, nodes[parent])
        return nodes

    def opened(self) -> int:
        """Return how often a directory was opened since the last time."""
        count = self.tap.names.count("open")
        self.tap.names.clear()
        return count


@pytest.fixture
def deep(ground: str) -> Iterator[Way]:
    way = Way(f"{ground}/deep", {"/".join(CHAIN): Directory()})
    yield way
    os.close(way.root)


@pytest.fixture
def nested(ground: str) -> Iterator[Way]:
    way = Way(f"{ground}/nested", NESTED)
    yield way
    os.close(way.root)


@pytest.mark.parametrize("held", [2, 3, 5, 20])
def test_a_trail_holds_no_more_handles_than_it_may_and_finds_its_way_back(
    deep: Way, held: int
) -> None:
    before = descriptors()
    trail = Trail(deep.platform, deep.root, held=held)
    path = deep.path
    for depth, name in enumerate(CHAIN, 1):
        handle = trail.enter(name)
        path = os.path.join(path, name)
        assert handle == trail.handle
        assert trail.depth == depth
        assert os.fstat(handle).st_ino == inode(path)
        assert descriptors() - before == min(depth, held - 1)  # the root is the caller's
    deep.opened()
    for depth in range(len(CHAIN) - 1, -1, -1):
        trail.leave()
        path = os.path.dirname(path)
        assert trail.depth == depth
        assert os.fstat(trail.handle).st_ino == inode(path)
        assert descriptors() - before <= held
    assert deep.opened() == max(0, len(CHAIN) - (held - 1))
    assert trail.handle == deep.root
    assert descriptors() == before


def test_a_trail_finds_its_way_back_in_a_program_without_standard_streams(deep: Way) -> None:
    """Its directories have the numbers that are closed everywhere else."""

    def walk_there_and_back() -> None:
        for standard in (0, 1, 2):
            os.close(standard)
        trail = Trail(deep.platform, deep.root, held=4)
        for length in range(len(CHAIN) + 1):
            handles = [trail.enter(name) for name in CHAIN[:length]]
            assert {0, 1, 2}.issuperset(handles[:3])
            for depth in range(length - 1, -1, -1):
                trail.leave()
                assert os.fstat(trail.handle).st_ino == inode(deep.path, *CHAIN[:depth])

    assert in_child(walk_there_and_back) == 0


def test_a_trail_that_is_reset_closes_what_it_opened_and_nothing_else(deep: Way) -> None:
    before = descriptors()
    trail = Trail(deep.platform, deep.root, held=3)
    for name in CHAIN:
        trail.enter(name)
    trail.reset()
    assert descriptors() == before
    assert (trail.handle, trail.depth) == (deep.root, 0)
    trail.reset()
    for name in CHAIN:  # and it can be walked again
        trail.enter(name)
    for _ in CHAIN:
        trail.leave()
    assert descriptors() == before


@pytest.mark.parametrize("primitive", [Primitive.READ, Primitive.OPEN])
def test_failures_are_told_as_what_the_trail_is_for(nested: Way, primitive: Primitive) -> None:
    trail = Trail(nested.platform, nested.root, Node("", None), primitive)
    with pytest.raises(Failed) as caught:
        trail.enter("missing")
    assert caught.value.primitive is primitive
    missing = Node("missing", Node("", None))
    with pytest.raises(Lost) as lost:
        trail.step(missing)
    assert lost.value.node is missing
    assert lost.value.failed.primitive is primitive
    assert lost.value.failed.error.errno == errno.ENOENT
    assert lost.value.args == ("missing", lost.value.failed)


@pytest.mark.parametrize("primitive", [Primitive.READ, Primitive.OPEN])
def test_a_directory_that_was_moved_meanwhile_is_not_taken_for_its_parent(
    deep: Way, primitive: Primitive
) -> None:
    before = descriptors()
    trail = Trail(deep.platform, deep.root, None, primitive, held=2)
    for name in CHAIN[:4]:
        trail.enter(name)
    os.rename(os.path.join(deep.path, *CHAIN[:4]), f"{deep.path}/moved")
    with pytest.raises(Failed, match="a directory was moved while it was walked") as caught:
        trail.leave()
    assert caught.value.primitive is primitive
    assert caught.value.error.errno == errno.ESTALE
    trail.reset()
    assert descriptors() == before


@pytest.mark.parametrize("primitive", [Primitive.READ, Primitive.OPEN])
def test_a_parent_that_cannot_be_opened_again_is_told_as_what_the_trail_is_for(
    deep: Way, primitive: Primitive
) -> None:
    trail = Trail(deep.platform, deep.root, None, primitive, held=2)
    for name in CHAIN[:4]:
        trail.enter(name)
    failing = Tap(lambda number, name: (_ for _ in ()).throw(PermissionError(errno.EACCES, name)))
    trail._platform = failing.platform
    with pytest.raises(Failed) as caught:
        trail.leave()
    assert caught.value.primitive is primitive
    trail._platform = deep.platform
    trail.reset()


def test_a_trail_goes_no_further_up_than_it_must(nested: Way) -> None:
    nodes = nested.scanned(NESTED)
    trail = Trail(nested.platform, nested.root, nodes[""])
    for path, opened in (
        ("a/b/c", 3),
        ("a/b/d", 1),
        ("a/b/d", 0),
        ("a/b", 0),
        ("a/b/c", 1),
        ("a/e", 1),
        ("f", 1),
        ("", 0),
    ):
        handle = trail.seek(nodes[path])
        assert os.fstat(handle).st_ino == inode(nested.path, path)
        assert nested.opened() == opened, path
        assert trail.depth == (path.count("/") + 1 if path else 0)
    trail.reset()


def test_a_trail_knows_a_node_that_it_was_told_on_entering(nested: Way) -> None:
    nodes = nested.scanned(NESTED)
    trail = Trail(nested.platform, nested.root, nodes[""])
    trail.enter("a", nodes["a"])
    nested.opened()
    trail.seek(nodes["a/b"])
    assert nested.opened() == 1
    trail.make("new")
    nested.opened()
    trail.leave()
    trail.seek(nodes["a/b/c"])
    assert nested.opened() == 1
    made = Node("made", nodes["a/b/c"])
    trail.make("made", 0o700, made)
    inside = Node("inside", made)
    os.mkdir(f"{nested.path}/a/b/c/made/inside")
    nested.opened()
    trail.seek(inside)
    assert nested.opened() == 1
    trail.reset()


def test_a_trail_may_begin_below_the_root_of_the_nodes(nested: Way) -> None:
    nodes = nested.scanned(NESTED)
    below = os.open(f"{nested.path}/a/b", os.O_RDONLY)
    trail = Trail(nested.platform, below, nodes["a/b"])
    assert trail.base_depth == 2
    for name in "cd":
        assert os.fstat(trail.seek(nodes[f"a/b/{name}"])).st_ino == inode(nested.path, "a/b", name)
        assert nested.opened() == 1
    assert trail.seek(nodes["a/b"]) == below
    trail.reset()
    os.close(below)


def test_a_trail_makes_directories_for_nobody_else_unless_told(nested: Way) -> None:
    trail = Trail(nested.platform, nested.root)
    umask = os.umask(0)
    try:
        trail.make("mine")
        assert os.fstat(trail.handle).st_ino == inode(nested.path, "mine")
        trail.make("open", 0o755)
    finally:
        os.umask(umask)
    trail.reset()
    assert os.stat(f"{nested.path}/mine").st_mode & 0o7777 == 0o700
    assert os.stat(f"{nested.path}/mine/open").st_mode & 0o7777 == 0o755


def test_a_node_knows_where_it_is() -> None:
    top = Node("top", None)
    a = Node("a", top)
    b = Node("b", a)
    c = Node("c", b)
    assert [node.path for node in (top, a, b, c)] == ["", "a", "a/b", "a/b/c"]
    assert [node.depth for node in (top, a, b, c)] == [0, 1, 2, 3]
    assert [c.path_below(depth) for depth in (0, 1, 2, 3)] == ["a/b/c", "b/c", "c", ""]
    assert (top.join("x"), b.join("x")) == ("x", "a/b/x")
    assert [each.root for each in (top, a)] == [True, False]
    b.root = True  # as where one directory is linked on its own
    assert c.path == "c"


def test_a_node_lies_below_itself_and_what_is_above_it() -> None:
    top = Node("", None)
    a, other = Node("a", top), Node("other", top)
    b = Node("b", a)
    c = Node("c", b)
    for above in (top, a, b, c):
        assert c.below(above)
    for elsewhere in (other, Node("x", b), Node("d", c), Node("b", a), Node("", None)):
        assert not c.below(elsewhere)
    assert not top.below(c)
    assert not other.below(a)


def test_a_new_node_knows_nothing_of_source_and_target() -> None:
    node = Node("", None)
    assert (node.mode, node.atime_ns, node.mtime_ns) == (0o755, 0, 0)
    assert (node.device, node.inode) == (0, 0)
    assert node.present is False
    assert not node.inodes
    assert not node.taken
    assert node.stored_name("a") == "a"
    node.stored = {"a": "blob"}
    assert node.stored_name("a") == "blob"


def test_a_walk_meets_each_directory_before_and_after_what_lies_in_it() -> None:
    top, a, b, c = (Node(name, None) for name in ("", "a", "b", "c"))
    top.directories, a.directories = [a, c], [b]
    met = [(node.name, entering) for node, entering in walk(top)]
    assert met == [
        ("", True),
        ("a", True),
        ("b", True),
        ("b", False),
        ("a", False),
        ("c", True),
        ("c", False),
        ("", False),
    ]


# Scanning.


def scan_of(way: Way) -> tuple[Node, int, list[tuple[str, str, str]]]:
    top = Node("", None)
    before = descriptors()
    try:
        total, folding = scan(way.platform, way.root, top, ".ours-")
    finally:
        assert descriptors() == before
    return top, total, [(node.path, one, other) for node, one, other in folding]


def test_a_scan_knows_all_that_a_link_needs(ground: str) -> None:
    way = Way(
        f"{ground}/tree",
        {
            "z": File(b"z"),
            "a": File(b"a"),
            "link": Symlink("a"),
            "d/deep/f": File(b"f"),
            "d": Directory(0o750, trees.PAST + 1),
            "empty": Directory(),
        },
    )
    top, total, folding = scan_of(way)
    assert (total, folding) == (3, [])
    assert (list(top.files), list(top.symlinks)) == (["a", "z"], ["link"])
    nodes = {node.path: node for node, entering in walk(top) if entering}
    assert list(nodes) == ["", "d", "d/deep", "empty"]
    assert list(nodes["d/deep"].files) == ["f"]
    for path, node in nodes.items():
        seen = os.stat(os.path.join(way.path, path))
        assert node.mode == seen.st_mode & 0o7777
        assert node.device == seen.st_dev
        assert (node.atime_ns, node.mtime_ns) == (trees.PAST, seen.st_mtime_ns)  # as it was
    os.close(way.root)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_scan_refuses_what_is_no_file_directory_or_symlink(ground: str, depth: int) -> None:
    inside = "/".join(CHAIN[:depth])
    way = Way(f"{ground}/tree", {f"{inside}/file": File()})
    os.mkfifo(f"{way.path}/{inside}/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{way.path}/{inside}/socket")
    with pytest.raises(SpecialFile) as caught:
        scan_of(way)
    assert caught.value.path == f"{inside}/fifo"
    assert caught.value.args == (f"{inside}/fifo",)
    os.close(way.root)


@pytest.mark.parametrize(
    ("name", "refused"),
    [(".ours-1", True), (".ours-", True), ("x.ours-", False), (".ours", False), ("Ours-", False)],
)
@pytest.mark.parametrize("kind", [File(), Directory(), Symlink("a")])
def test_a_scan_refuses_names_that_are_ours(
    ground: str, kind: trees.Entry, name: str, *, refused: bool
) -> None:
    way = Way(f"{ground}/tree", {"d/a": File(), f"d/{name}": kind})
    if refused:
        with pytest.raises(Reserved) as caught:
            scan_of(way)
        assert caught.value.path == f"d/{name}"
        assert caught.value.args == (f"d/{name}",)
    else:
        assert scan_of(way)[2] == []
    os.close(way.root)


def test_a_scan_tells_names_that_some_filesystem_would_fold_into_one(ground: str) -> None:
    tree: Tree = {
        "A": File(),
        "a": File(),
        "lower/same": File(),
        "d/stra\u00dfe": File(),
        "d/STRASSE": Directory(),
        "e/\u00e9": File(),
        "e/e\u0301": Symlink("x"),
        "X/one": File(),
    }
    way = Way(f"{ground}/tree", tree)
    assert sorted(scan_of(way)[2]) == [
        ("", "A", "a"),
        ("d", "stra\u00dfe", "STRASSE"),
        ("e", "\u00e9", "e\u0301"),
    ]
    os.close(way.root)


@pytest.mark.parametrize(("call", "nth"), [("open", 2), ("listdir", 3), ("fstat", 3)])
def test_a_directory_that_cannot_be_read_is_named(ground: str, call: str, nth: int) -> None:
    way = Way(f"{ground}/tree", {"a/b/c": Directory()})

    def unreadable(number: int, name: str) -> None:
        if name == call and way.tap.names.count(call) == nth:
            raise PermissionError(errno.EACCES, "no")

    way.tap = Tap(unreadable)
    way.platform = way.tap.platform
    with pytest.raises(Lost) as caught:
        scan_of(way)
    assert caught.value.node.path == "a/b"
    assert caught.value.failed.primitive is Primitive.READ
    os.close(way.root)


def test_names_are_compared_as_the_most_forgiving_filesystem_would() -> None:
    assert fold("ReadMe") == fold("README") == "readme"
    assert fold("\u00c9") == fold("e\u0301")
    assert fold("stra\u00dfe") == fold("STRASSE")
    assert fold("a") != fold("b")


def test_a_path_goes_up_from_where_a_symlink_leads(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/here", {"there/inside": Directory(), "link": Symlink("there/inside")})
    monkeypatch.chdir(f"{ground}/here")
    here = os.getcwd()
    assert absolute("there") == f"{here}/there"
    assert absolute("there/../there/inside/") == f"{here}/there/inside"
    assert absolute("link/../x") == f"{here}/link/../x"
    assert absolute("/") == "/"


def test_paths_may_be_text_bytes_or_objects(ground: str) -> None:
    from pathlib import Path

    assert text_of("a") == text_of(b"a") == text_of(Path("a")) == "a"
    assert os.fsencode(text_of(b"\xff")) == b"\xff"
