"""Places that refuse what was made for them: one link too many, a directory that stays locked."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Condition
from linker.platforms.linux import CALLS, Calls, LinuxPlatform, renameat2


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
