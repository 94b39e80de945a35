"""Places that refuse what was made for them: one link too many, a directory that stays locked, a
call that says it swapped two names and gave one the place of the other.
"""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Condition
from linker.platforms.linux import CALLS, RENAME_EXCHANGE, Calls, LinuxPlatform, renameat2
from linker.store import Store
from pytest_linkmode.faults.inprocess import injected
from tests.linker.scenes import Watcher

_FUSE = 0x65735546


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """A source of two files, one of which the target has already."""
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    for name in ("taken", "free"):
        (tmp_path / "source" / name).write_text(f"ours: {name}")
    (tmp_path / "target" / "taken").write_text("theirs")
    return tmp_path


def full_of_names() -> LinuxPlatform:
    """Let no hard link have the name that exists, as a directory of btrfs without extref does."""

    def rename(source: int, name: str, target: int, new: str, flags: int) -> None:
        if new == "taken" and os.stat(name, dir_fd=source).st_nlink > 1:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), new)
        renameat2(source, name, target, new, flags)

    return LinuxPlatform(_calls(renameat2=rename))


def _calls(**other: Any) -> Calls:
    every = {name: getattr(CALLS, name) for name in Calls.__slots__}
    return Calls(**{**every, **other})


def test_a_link_too_many_in_one_directory_is_copied_and_no_other(place: pathlib.Path) -> None:
    report = link_tree(
        place / "source",
        place / "target",
        mode=LinkMode.HARDLINK,
        platform=full_of_names(),
    )
    assert report.counts == {LinkMode.HARDLINK: 1, LinkMode.COPY: 1}
    assert (place / "target/taken").read_text() == "ours: taken"
    assert not os.path.samefile(place / "source/taken", place / "target/taken")
    assert os.path.samefile(place / "source/free", place / "target/free")
    assert sorted(os.listdir(place / "target")) == ["free", "taken"]
    assert [each.edge.id for each in report.transitions] == [
        "linux/hardlink/exchange/too-many-links"
    ]


def test_where_falling_back_is_an_error_a_link_too_many_is_one(place: pathlib.Path) -> None:
    with pytest.raises(LinkError) as caught:
        link_tree(
            place / "source",
            place / "target",
            mode=LinkMode.HARDLINK,
            strict=True,
            platform=full_of_names(),
        )
    assert caught.value.condition is Condition.TOO_MANY_LINKS
    assert (place / "target/taken").read_text() == "theirs"
    assert os.listdir(place / "target") == ["taken"]
    assert caught.value.left == ()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM])
def test_a_directory_that_cannot_be_opened_for_writing_leaves_nothing_behind(
    place: pathlib.Path, number: int
) -> None:
    (place / "source/sub").mkdir()
    (place / "source/sub/file").write_text("ours")
    (place / "target/sub").mkdir()

    def access(path: Any, mode: int, **more: Any) -> bool:
        return not mode & os.W_OK

    def chmod(descriptor: int, mode: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(LinkError) as caught:
        link_tree(
            place / "source",
            place / "target",
            mode=LinkMode.HARDLINK,
            platform=LinuxPlatform(_calls(access=access, chmod=chmod)),
        )
    assert caught.value.left == ()
    assert sorted(os.listdir(place / "target")) == ["sub", "taken"]
    assert os.listdir(place / "target/sub") == []


def served_carelessly() -> LinuxPlatform:
    """Take every rename for a plain one, as daemons do that never look at the flags."""

    def rename(source: int, name: str, target: int, new: str, flags: int) -> None:
        if flags == RENAME_EXCHANGE:
            os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        else:
            renameat2(source, name, target, new, flags)

    return LinuxPlatform(_calls(renameat2=rename, fstype=lambda _: _FUSE))


def test_where_a_swap_would_only_replace_nothing_is_lost_by_an_error(place: pathlib.Path) -> None:
    def progress(done: int, every: int) -> None:
        if done == every:
            raise injected(errno.EIO)

    target = place / "target"
    with pytest.raises(OSError, match="Input"):
        link_tree(place / "source", target, platform=served_carelessly(), progress=progress)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"taken": "theirs"}


def test_what_is_there_is_replaced_otherwise_and_that_is_told(place: pathlib.Path) -> None:
    watcher = Watcher()
    report = link_tree(
        place / "source",
        place / "target",
        mode=LinkMode.COPY,
        platform=served_carelessly(),
        observer=watcher,
    )
    assert report.replaced == 1
    assert "linux/*/exchange/unsupported" in {each.edge.id for each in watcher.transitions}
    assert {path.name: path.read_text() for path in (place / "target").iterdir()} == {
        "taken": "ours: taken",
        "free": "ours: free",
    }


def test_a_file_of_a_store_is_mended_there(place: pathlib.Path) -> None:
    store = Store(str(place / "store"), platform=served_carelessly())
    store.add(str(place / "source"))
    (found,) = [path for path in (place / "store").rglob("*") if _is(path, "ours: free")]
    os.chmod(found, 0o600)
    found.write_text("corrupt!!!")
    store.add(str(place / "source"))
    assert found.read_text() == "ours: free"


def _is(path: pathlib.Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text
