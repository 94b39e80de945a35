"""Random trees over random targets: the result is the model's, and a failure changes nothing.

Deterministic and quick by default; ``LINKER_PROFILE=linker-long`` looks further, at random.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from linker import Existing, LinkError, LinkMode, LinkReport, link_tree
from linker.journal import RESERVED
from linker.platforms.linux import Calls
from tests.linker import model, trees
from tests.linker.seams import REFLINKING, WITHOUT_FLAGS, Fault, Tap, descriptors
from tests.linker.trees import PAST, Directory, Entry, File, Symlink, Tree
from tests.profiles import PROFILE

FILE_MODES = st.sampled_from([0o644, 0o755, 0o400, 0o600, 0o444, 0o4755, 0o2711, 0o777])
DIRECTORY_MODES = st.sampled_from([0o755, 0o755, 0o555, 0o500, 0o700, 0o1777, 0o775])
TIMES = st.integers(min_value=0, max_value=PAST)
SIZES = st.one_of(
    st.sampled_from([0, 0, 1, 4095, 4096, 65_536, 262_144, 262_145]),
    st.integers(min_value=0, max_value=300 * 1024),
)

ODD_NAMES = st.binary(min_size=1, max_size=16).filter(
    lambda name: name not in (b".", b"..") and not {0, ord("/")} & set(name)
)
LONG_NAMES = st.builds(
    lambda letter, size: letter * size, st.sampled_from([b"n", b"\xff"]), st.integers(200, 255)
)
NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"A", b"ns", b"__init__.py", b"-rf", b" ", b"\n", b"*", b"p1", b"c0", b"1"]
    ),
    ODD_NAMES,
    LONG_NAMES,
).map(os.fsdecode)
LINK_TEXTS = st.one_of(
    st.sampled_from(
        ["a", "ns", "../a", "../..", ".", "a/ns", "/", "/nowhere", "../target", "../source"]
    ),
    ODD_NAMES.map(os.fsdecode),
)

FILES = st.builds(
    lambda size, seed, mode, mtime: File(trees.noise(size, seed), mode, mtime),
    SIZES,
    st.integers(0, 3),
    FILE_MODES,
    TIMES,
)
DIRECTORIES = st.builds(Directory, DIRECTORY_MODES, TIMES)
SYMLINKS = st.builds(Symlink, LINK_TEXTS, TIMES)


@st.composite
def drawn_trees(draw: st.DrawFn, names: list[str], entries: int) -> Tree:
    """Draw a tree whose names come from `names`, so that two of them overlap."""
    tree: dict[str, Entry] = {"": draw(DIRECTORIES)}
    directories = [""]
    for _ in range(draw(st.integers(0, entries))):
        above = draw(st.sampled_from(directories))
        name = draw(st.sampled_from(names))
        path = f"{above}/{name}" if above else name
        if path in tree or path.count("/") > 5:
            continue
        tree[path] = draw(st.one_of(FILES, DIRECTORIES, DIRECTORIES, SYMLINKS))
        if isinstance(tree[path], Directory):
            directories.append(path)
    return tree


@st.composite
def drawn_merges(draw: st.DrawFn) -> tuple[Tree, Tree | None]:
    """Draw a source, and a target that shares some of its names, mostly with the same kinds."""
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    source = draw(drawn_trees(names, 12))
    if draw(st.integers(0, 3)) == 0:
        return source, None
    other = dict(draw(drawn_trees(names, 8)))
    if draw(st.integers(0, 3)):  # mostly something that can be merged
        for path, entry in source.items():
            there = other.get(path)
            if there is not None and isinstance(entry, Directory) != isinstance(there, Directory):
                for below in [key for key in other if key == path or key.startswith(f"{path}/")]:
                    del other[below]
    return source, other


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def both(scene: str, merge: tuple[Tree, Tree | None]) -> Iterator[tuple[str, str]]:
    """Build a source and a target for one example."""
    source, existing = merge
    here, there = f"{scene}/source", f"{scene}/target"
    try:
        trees.build(here, source)
        if existing is not None:
            trees.build(there, existing)
        yield here, there
    finally:
        for name in os.listdir(scene):
            trees.remove(f"{scene}/{name}")


@settings(PROFILE)
@given(
    merge=drawn_merges(),
    mode=st.sampled_from(LinkMode),
    mask=st.sampled_from([0o022, 0o077, 0o000, 0o777, 0o200]),
)
def test_the_result_is_what_the_model_says(
    scene: str, merge: tuple[Tree, Tree | None], mode: LinkMode, mask: int
) -> None:
    with both(scene, merge) as (source, there):
        wanted, before = trees.snapshot(source), trees.snapshot(there)
        clash = model.conflicts(wanted, before)
        event("cannot be merged" if clash else "merged" if before else "fresh")
        if clash:
            with pytest.raises(LinkError):
                link_tree(source, there, mode=mode, platform=Tap().platform)
            assert trees.lasting(trees.snapshot(there)) == trees.lasting(before)
            return
        with umask(mask):
            report = link_tree(source, there, mode=mode, platform=Tap().platform)
        after = trees.snapshot(there)
        assert not model.problems(wanted, before, after, mode.value, source_path=source)
        assert not report.transitions
        assert not report.leftovers
        assert sorted(os.listdir(scene)) == ["source", "target"]
        assert trees.snapshot(source) == wanted
        of_kind = {
            kind: [p for p, s in wanted.items() if s.kind == kind] for kind in ("file", "symlink")
        }
        assert report.counts == ({mode: len(of_kind["file"])} if of_kind["file"] else {})
        assert report.symlinks == len(of_kind["symlink"])
        assert report.replaced == sum(
            path in before and wanted[path].kind != "directory" for path in wanted
        )
        new = [p for p, s in wanted.items() if s.kind == "directory" and p not in before]
        assert report.directories == len(new)


def calls_of_a_link(source: str, existing: Tree | None, mode: LinkMode, way: Calls) -> int:
    """Return how many system calls a link makes, found by making it somewhere else."""
    trial = f"{source}-trial"
    if existing is not None:
        trees.build(trial, existing)
    tap = Tap(base=way)
    link_tree(source, trial, mode=mode, platform=tap.platform)
    trees.remove(trial)
    return tap.count


def attempt(source: str, there: str, mode: LinkMode, tap: Tap) -> LinkReport | LinkError:
    """Link; return the report or the error."""
    try:
        return link_tree(source, there, mode=mode, platform=tap.platform)
    except LinkError as error:
        return error


@settings(PROFILE)
@given(
    merge=drawn_merges(),
    mode=st.sampled_from(LinkMode),
    way=st.sampled_from([REFLINKING, REFLINKING, WITHOUT_FLAGS]),
    where=st.integers(0, 99),
    error=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EACCES, errno.EXDEV, errno.ENOENT]),
)
def test_after_an_error_at_a_random_call_nothing_has_changed(
    scene: str,
    merge: tuple[Tree, Tree | None],
    mode: LinkMode,
    way: Calls,
    where: int,
    error: int,
) -> None:
    with both(scene, merge) as (source, there):
        wanted, before = trees.snapshot(source), trees.snapshot(there)
        assume(not model.conflicts(wanted, before))
        fault = Fault(1 + where * calls_of_a_link(source, merge[1], mode, way) // 100, error)
        held = descriptors()
        ended = attempt(source, there, mode, Tap(fault, way))
        assert descriptors() == held
        after = trees.snapshot(there)
        if isinstance(ended, LinkError):
            event(f"undone after {fault.hit}")
            assert not ended.left
            assert not trees.differences(trees.lasting(before), trees.lasting(after))
            assert sorted(os.listdir(scene)) == ["source", "target"][: 1 + bool(before)]
            return
        event("went on" if fault.hit else "was not met")
        found = model.problems(
            wanted,
            before,
            {path: seen for path, seen in after.items() if RESERVED not in path},
            mode.value,
            source_path=source,
            fallback=bool(ended.transitions),
        )
        assert not [said for said in found if not any(repr(p) in said for p in ended.leftovers)]


@settings(PROFILE, max_examples=30)
@given(merge=drawn_merges(), mode=st.sampled_from(LinkMode))
def test_where_nothing_may_exist_any_common_name_is_refused(
    scene: str, merge: tuple[Tree, Tree | None], mode: LinkMode
) -> None:
    with both(scene, merge) as (source, there):
        wanted, before = trees.snapshot(source), trees.snapshot(there)
        common = wanted.keys() & before.keys() - {""}
        tap = Tap()
        if common:
            with pytest.raises(LinkError):
                link_tree(source, there, mode=mode, existing=Existing.FAIL, platform=tap.platform)
            assert trees.lasting(trees.snapshot(there)) == trees.lasting(before)
        else:
            link_tree(source, there, mode=mode, existing=Existing.FAIL, platform=tap.platform)
            after = trees.snapshot(there)
            assert not model.problems(wanted, before, after, mode.value, source_path=source)


@settings(PROFILE, max_examples=30)
@given(merge=drawn_merges(), mode=st.sampled_from(LinkMode))
def test_linking_twice_is_linking_once(
    scene: str, merge: tuple[Tree, Tree | None], mode: LinkMode
) -> None:
    with both(scene, merge) as (source, there):
        wanted, before = trees.snapshot(source), trees.snapshot(there)
        assume(not model.conflicts(wanted, before))
        link_tree(source, there, mode=mode, platform=Tap().platform)
        once = trees.snapshot(there)
        link_tree(source, there, mode=mode, platform=Tap().platform)
        assert not model.problems(
            wanted, once, trees.snapshot(there), mode.value, source_path=source
        )
