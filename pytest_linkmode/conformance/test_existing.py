"""What is in the target already: merged, replaced, never written through, never left."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from pytest_linkmode.adapters import AdapterError
from pytest_linkmode.conformance.cases import Case, assert_unchanged, names
from pytest_linkmode.samples import Directory, File, Symlink, write_tree
from pytest_linkmode.snapshots import snapshot

THEIRS = (
    File("ns/gamma/__init__.py"),
    File("ns/gamma/core.py", 4000),
    File("ns/alpha/plugin.py", 5000, 0o600),
    File("bin/their-tool", 2000, 0o755),
    File("another/file", 5000, 0o444),
    Symlink("links/theirs", "../another/file"),
    Directory("ns/delta"),
)
"""What another linker has put into the target."""

MINE = "package/module.py"
PRECIOUS = b"nobody but its owner may change this"

In = Callable[[pathlib.Path, pathlib.Path], None]


def a_file(place: pathlib.Path, _precious: pathlib.Path) -> None:
    place.write_bytes(b"an older version")


def a_longer_file(place: pathlib.Path, _precious: pathlib.Path) -> None:
    place.write_bytes(b"an older version" * 5000)


def a_read_only_file(place: pathlib.Path, _precious: pathlib.Path) -> None:
    place.write_bytes(b"an older version")
    place.chmod(0o444)


def a_hard_link_to_elsewhere(place: pathlib.Path, precious: pathlib.Path) -> None:
    os.link(precious, place)


def a_symlink_to_elsewhere(place: pathlib.Path, precious: pathlib.Path) -> None:
    place.symlink_to(precious)


def a_dangling_symlink(place: pathlib.Path, precious: pathlib.Path) -> None:
    place.symlink_to(precious.with_name("new"))


IN_PLACE: Mapping[str, In] = {
    put.__name__.replace("_", "-"): put
    for put in (
        a_file,
        a_longer_file,
        a_read_only_file,
        a_hard_link_to_elsewhere,
        a_symlink_to_elsewhere,
        a_dangling_symlink,
    )
}


CANNOT_HAVE = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENAMETOOLONG)
"""How a filesystem says that it has no links, no symlinks, or none with so long a text."""


def put_or_skip(put: In, place: pathlib.Path, precious: pathlib.Path) -> None:
    """Put something where something of ours must go, if the target can have such a thing."""
    try:
        put(place, precious)
    except OSError as error:
        if error.errno not in CANNOT_HAVE:
            raise
        pytest.skip(f"not applicable: the target cannot have such a thing ({error.strerror})")


def test_what_others_have_in_the_target_is_still_theirs(sample: Case) -> None:
    write_tree(sample.target, THEIRS)
    before = snapshot(sample.target)
    sample.link()
    after = snapshot(sample.target)
    directories = {name for name in before if (sample.target / name).is_dir()}
    files = {name: picture for name, picture in before.items() if name not in directories}
    assert_unchanged("what others have", files, after, added=False)
    # Directories keep their permission bits; their times move on where something was added.
    existing = {name: before[name] for name in directories}
    assert_unchanged("what others have", existing, after, but={"mtime"}, added=False)


def test_what_is_linked_into_the_middle_of_it_is_whole(sample: Case) -> None:
    write_tree(sample.target, THEIRS)
    theirs = names(sample.target)
    sample.link()
    only_theirs = [name for name in theirs if not os.path.lexists(sample.source / name)]
    sample.check(ignore=only_theirs, existed=["ns", "ns/alpha", "bin", "links"])
    assert set(only_theirs) <= set(names(sample.target))


@pytest.mark.parametrize("put", IN_PLACE.values(), ids=IN_PLACE)
def test_a_name_that_is_taken_is_replaced_and_not_written_through(sample: Case, put: In) -> None:
    precious = sample.outside / "precious"
    precious.write_bytes(PRECIOUS)
    (sample.target / "package").mkdir()
    put_or_skip(put, sample.target / MINE, precious)
    before = snapshot(sample.outside)
    sample.link()
    assert_unchanged("what lies outside the target", before, snapshot(sample.outside))
    sample.check(existed=["package"])


@pytest.mark.parametrize("place", ["ns", "ns/beta"])
def test_a_symlink_where_a_directory_must_go_is_not_followed_out_of_the_target(
    sample: Case, place: str
) -> None:
    write_tree(sample.outside, [File("kept", 100), Directory("inner")])
    before = snapshot(sample.outside)
    path = sample.target / place
    path.parent.mkdir(exist_ok=True)
    put_or_skip(lambda there, elsewhere: there.symlink_to(elsewhere), path, sample.outside)
    # Refusing it and replacing it are both right.
    with suppress(AdapterError):
        sample.link()
    assert_unchanged("what lies outside the target", before, snapshot(sample.outside))


def test_nothing_temporary_is_left_neither_in_the_target_nor_beside_it(sample: Case) -> None:
    write_tree(sample.target, [File("package/module.py", 10), File("ns/alpha/core.py", 10)])
    beside = os.listdir(sample.target.parent)
    sample.link()
    assert sample.names() == names(sample.source)
    assert sorted(os.listdir(sample.target.parent)) == sorted(beside)


def test_a_second_run_over_a_finished_target_ends_the_same(sample: Case) -> None:
    sample.link()
    first = snapshot(sample.target)
    sample.link()
    assert_unchanged("the target", first, snapshot(sample.target), but={"mtime", "inode"})
    sample.check(existed=["*"])


def test_a_run_over_a_target_linked_in_another_mode_ends_in_the_mode_asked_for(
    sample: Case,
) -> None:
    sample.layout.seal()
    before = snapshot(sample.source)
    for other in sample.linker.modes():
        sample.link(other)
        sample.link()
        sample.check(existed=["*"])
    assert_unchanged("the source", before, snapshot(sample.source))
