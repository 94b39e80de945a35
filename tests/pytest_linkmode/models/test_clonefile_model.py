"""What the model of clonefile(2) does beside the contract: quirks, items one by one, the seam."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linker.platforms.macos import CLONE_NOFOLLOW, ERRORS, RENAME_EXCL, RENAME_SWAP
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.models import clonefile
from pytest_linkmode.models.clonefile import Model, Quirk
from tests.linker import trees
from tests.linker.seams import REFLINKING
from tests.linker.trees import Directory, File, Symlink, Tree

TREE: Tree = {
    "a": File(b"a"),
    "d/b": File(b"b", 0o755),
    "d/ln": Symlink("b"),
    "empty": Directory(0o555),
}


@pytest.fixture
def place(linkmode_fs: TestFilesystem) -> Iterator[int]:
    """A descriptor of a directory that holds a tree called ``from``."""
    trees.build(f"{linkmode_fs.path}/from", TREE)
    descriptor = os.open(linkmode_fs.path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def here(place: int) -> str:
    return os.path.realpath(f"/proc/self/fd/{place}")


def clone(model: Model, place: int, new: str = "to", source: str = "from") -> str:
    """Clone; return the error's name, empty for success."""
    done = model.calls.clonefileat(
        place, os.fsencode(source), place, os.fsencode(new), CLONE_NOFOLLOW
    )
    return "" if done == 0 else ERRORS[model.calls.errno()]


ONE = pytest.mark.linkmode(fs=["btrfs"])


class Watched:
    """A model whose every call is followed by a look at what a name shows."""

    def __init__(self, place: int, *, atomic: bool) -> None:
        self.seen: list[tuple[str, list[str]]] = []
        self._place = place
        self.model = Model(atomic=atomic, wrap=self._wrap)

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **options: Any) -> Any:
            result = call(*given, **options)
            self.seen.append((name, sorted(trees.snapshot(f"{here(self._place)}/to"))))
            return result

        return watched


@ONE
def test_item_by_item_a_directory_shows_its_entries_one_after_the_other(place: int) -> None:
    watched = Watched(place, atomic=False)
    assert clone(watched.model, place) == ""
    assert [name for name, _ in watched.seen] == [
        *["item_directory", "item_file", "item_directory", "item_file", "item_symlink"],
        *["item_finish", "item_directory", "item_finish", "item_finish", "clonefileat"],
    ]
    sizes = [len(shown) for _, shown in watched.seen]
    assert sizes == [1, 2, 3, 4, 5, 5, 6, 6, 6, 6]


@ONE
def test_atomically_a_directory_is_there_all_at_once(place: int) -> None:
    watched = Watched(place, atomic=True)
    assert clone(watched.model, place) == ""
    assert [name for name, _ in watched.seen] == ["clonefileat"]
    assert trees.content(trees.snapshot(f"{here(place)}/to")) == trees.content(
        trees.snapshot(f"{here(place)}/from")
    )


@ONE
@pytest.mark.parametrize("way", ["whole", "items"])
def test_a_clone_that_fails_leaves_nothing_of_its_own_and_everything_of_others(
    place: int, way: str
) -> None:
    os.mkfifo(f"{here(place)}/from/z")

    def meddling(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def meddled(*given: Any, **options: Any) -> Any:
            result = call(*given, **options)
            if name == "item_symlink":
                with open(f"{here(place)}/to/d/theirs", "w"):
                    return result
            return result

        return meddled

    assert clone(Model(atomic=way == "whole", wrap=meddling), place) == "EINVAL"
    left = {} if way == "whole" else {"", "d", "d/theirs"}
    assert set(trees.snapshot(f"{here(place)}/to")) == set(left)
    assert sorted(os.listdir(here(place))) == (["from"] if way == "whole" else ["from", "to"])


@ONE
def test_an_item_that_somebody_else_made_meanwhile_ends_the_clone(place: int) -> None:
    def meddling(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def meddled(*given: Any, **options: Any) -> Any:
            result = call(*given, **options)
            if name == "item_directory" and given[1] == "to":
                trees.build(f"{here(place)}/to/d", {"theirs": File(b"theirs")})
            return result

        return meddled

    assert clone(Model(atomic=False, wrap=meddling), place) == "EEXIST"
    assert set(trees.snapshot(f"{here(place)}/to")) == {"", "d", "d/theirs"}


@ONE
def test_enoent_for_eexist_comes_once_for_each_entry_that_is_there(place: int) -> None:
    model = Model(quirks={Quirk.MISSING_FOR_EXISTS})
    assert clone(model, place) == ""
    assert [clone(model, place) for _ in range(3)] == ["ENOENT", "EEXIST", "EEXIST"]
    os.rename("to", "other", src_dir_fd=place, dst_dir_fd=place)
    assert clone(model, place, "other") == "ENOENT"


@ONE
def test_a_dataless_file_can_be_neither_cloned_nor_read(place: int) -> None:
    clonefile.make_dataless(f"{here(place)}/from/d/b")
    model = Model(quirks={Quirk.DATALESS})
    assert clone(model, place) == "EDEADLK"
    assert clone(model, place, source="from/d/b") == "EDEADLK"
    assert clone(model, place, source="from/a") == ""
    reading = model.calls.open("from/d/b", os.O_RDONLY, dir_fd=place)
    with pytest.raises(OSError, match="deadlock") as caught:
        model.calls.read(reading, [bytearray(1)])
    os.close(reading)
    assert ERRORS[caught.value.errno or 0] == "EDEADLK"
    assert clone(Model(), place, "without-the-quirk") == ""


@ONE
def test_what_a_quarantined_process_makes_is_quarantined(place: int) -> None:
    model = Model(quirks={Quirk.QUARANTINE})
    assert clone(model, place, source="from/a") == ""
    made = model.calls.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=place)
    cloned = model.calls.open("to", os.O_RDONLY, dir_fd=place)
    for descriptor in (made, cloned):
        assert os.listxattr(descriptor) == ["user.com.apple.quarantine"]
        assert model.calls.fremovexattr(descriptor, b"com.apple.quarantine", 0) == -1
        assert ERRORS[model.calls.errno()] == "EPERM"
        os.close(descriptor)


@ONE
def test_attributes_are_listed_and_removed_as_in_c(place: int) -> None:
    import ctypes

    model = Model()
    descriptor = os.open("from/a", os.O_RDWR, dir_fd=place)
    for name in ("user.one", "user.two", "user.linkmode.dataless"):
        os.setxattr(descriptor, name, b"")
    size = model.calls.flistxattr(descriptor, None, 0, 0)
    buffer = ctypes.create_string_buffer(size)
    assert model.calls.flistxattr(descriptor, buffer, size, 0) == size == len(b"one\0two\0")
    assert set(buffer.raw.split(b"\0")) == {b"one", b"two", b""}
    assert model.calls.flistxattr(descriptor, buffer, 3, 0) == -1
    assert ERRORS[model.calls.errno()] == "ERANGE"
    assert model.calls.fremovexattr(descriptor, b"one", 0) == 0
    assert model.calls.fremovexattr(descriptor, b"one", 0) == -1
    assert ERRORS[model.calls.errno()] == "ENOATTR"
    os.close(descriptor)


@ONE
def test_a_case_insensitive_volume_finds_names_in_any_letters_and_keeps_their_own(
    place: int,
) -> None:
    model = Model(quirks={Quirk.CASE_INSENSITIVE})
    calls = model.calls
    assert clone(model, place, "FROM") == "EEXIST"
    assert clone(model, place, "Caf\u00e9", source="From") == ""
    assert clone(model, place, "CAFE\u0301") == "EEXIST"
    with pytest.raises(FileExistsError):
        calls.mkdir("fROM", dir_fd=place)
    assert calls.stat("FROM", dir_fd=place) == os.stat("from", dir_fd=place)
    assert calls.renameatx_np(place, b"from", place, "caf\u00c9".encode(), RENAME_EXCL) == -1
    assert ERRORS[model.calls.errno()] == "EEXIST"
    calls.rename("FROM", "To", src_dir_fd=place, dst_dir_fd=place)
    assert sorted(os.listdir(here(place))) == ["Caf\u00e9", "To"]
    assert clone(Model(), place, "to", source="To") == ""


@ONE
@pytest.mark.parametrize(
    ("old", "new", "flags", "error"),
    [
        ("from", "to", RENAME_EXCL, ""),
        ("from", "to", 0, ""),
        ("from", "there", RENAME_EXCL, "EEXIST"),
        ("from", "there", RENAME_SWAP, ""),
        ("from", "to", RENAME_SWAP, "ENOENT"),
        ("from", "to", RENAME_EXCL | RENAME_SWAP, "EINVAL"),
        ("from", "to", 0x10, "EINVAL"),
        ("from", "from/d", RENAME_SWAP, "EINVAL"),
        ("no", "to", RENAME_EXCL, "ENOENT"),
    ],
)
def test_renames_with_flags(place: int, old: str, new: str, flags: int, error: str) -> None:
    with open(f"{here(place)}/there", "w") as there:
        inode = os.fstat(there.fileno()).st_ino
    model = Model()
    done = model.calls.renameatx_np(place, old.encode(), place, new.encode(), flags)
    assert (done, ERRORS[model.calls.errno()] if done else "") == (
        (-1, error) if error else (0, "")
    )
    swapped = flags == RENAME_SWAP and not error
    assert (os.stat("from", dir_fd=place).st_ino == inode) if swapped else True


@ONE
def test_each_thread_has_its_own_error_number(place: int) -> None:
    model = Model()
    assert clone(model, place, source="no") == "ENOENT"
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(model.calls.errno()))
    thread.start()
    thread.join()
    assert found == [0]
    assert ERRORS[model.calls.errno()] == "ENOENT"


NOFOLLOW = os.O_DIRECTORY | os.O_NOFOLLOW


@ONE
@pytest.mark.parametrize(
    ("error", "name", "given"),
    [
        ("ELOOP", "open", ("ln", NOFOLLOW)),
        ("ENOTDIR", "open", ("from/a", NOFOLLOW)),
        ("ENOENT", "open", ("no", NOFOLLOW)),
        ("EPERM", "unlink", ("from",)),
        ("ENOENT", "unlink", ("no",)),
        ("ENOTEMPTY", "rmdir", ("from",)),
        ("ENAMETOOLONG", "mkdir", ("n" * 300,)),
        ("ENOTDIR", "stat", ("from/a/x",)),
    ],
)
def test_posix_calls_speak_darwin(
    place: int, error: str, name: str, given: tuple[Any, ...]
) -> None:
    os.symlink("from", "ln", dir_fd=place)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is what is asserted
        getattr(Model().calls, name)(*given, dir_fd=place)
    assert ERRORS[caught.value.errno or 0] == error


def test_a_lock_that_another_holds_is_no_error(tmp_path: Any) -> None:
    import fcntl

    descriptors = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    fcntl.flock(descriptors[0], fcntl.LOCK_EX)
    assert clonefile.platform().lock(descriptors[1]) is False
    fcntl.flock(descriptors[0], fcntl.LOCK_UN)
    assert clonefile.platform().lock(descriptors[1]) is True
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.linkmode(fs=["tmpfs"])
def test_a_volume_without_reflinks_cannot_clone_even_what_is_empty(place: int) -> None:
    for source in ("from", "from/empty", "from/d/ln", "from/a"):
        assert clone(Model(), place, source=source) == "ENOTSUP"
        assert clone(Model(host=REFLINKING), place, f"to-{source[-1]}", source) == ""


def test_a_quirk_that_cannot_be_kept_here_is_refused_at_once() -> None:
    with pytest.raises(LinkmodeError, match="no quirk of attributes on /proc"):
        clonefile.platform("/proc", quirks={Quirk.DATALESS})
    with pytest.raises(ValueError, match="no-such-quirk"):
        clonefile.platform(quirks={"no-such-quirk"})


def test_the_primitives_of_macos_need_nothing_that_only_linux_has() -> None:
    program = """
import ctypes, fcntl, os, sys
for name in ("O_PATH", "O_TMPFILE", "listxattr", "getxattr", "setxattr", "removexattr"):
    delattr(os, name)
sys.platform = "darwin"
import linker
linker.HERE = sys.platform
from linker.platforms import current
import pytest_linkmode.models.contract
print(current().name, current().proof)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["macos", "real"], "")
