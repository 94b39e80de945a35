"""What is made of numbers, names and bytes before a call of Windows, and after it."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import TABLES, Condition, Primitive, Scope, condition_of
from linker.platforms import windows as w
from linker.platforms.base import CheckFailed
from linker.platforms.kernel32 import filetime, rename_information
from linker.platforms.windows import (
    Calls,
    WindowsPlatform,
    extended,
    inherited_entries,
    pieces,
    refused,
    why_unfit,
    winerror_of,
)
from linker.policies import REFERENCE
from tests.windows.conftest import Stand
from tests.windows.test_linking import fill, tree


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000])
def test_pieces_cover_a_file_by_whole_clusters(size: int) -> None:
    found = list(pieces(size, 4096, longest=3 * 4096))
    assert sum(length for _, length in found) == -(-size // 4096) * 4096
    assert all(offset % 4096 == length % 4096 == 0 for offset, length in found)
    assert all(0 < length < 3 * 4096 for _, length in found)


def test_a_call_never_clones_four_gibibytes() -> None:
    assert list(pieces(9 << 30, 65536)) == [
        (0, (4 << 30) - 65536),
        ((4 << 30) - 65536, (4 << 30) - 65536),
        ((8 << 30) - 131072, (1 << 30) + 131072),
    ]


@pytest.mark.parametrize(
    ("path", "long"),
    [
        ("C:\\a\\b", "\\\\?\\C:\\a\\b"),
        ("\\\\server\\share\\a", "\\\\?\\UNC\\server\\share\\a"),
        ("\\\\?\\C:\\a", "\\\\?\\C:\\a"),
        ("\\\\?\\Volume{0}\\a", "\\\\?\\Volume{0}\\a"),
        ("\\\\.\\NUL", "\\\\.\\NUL"),
    ],
)
def test_paths_have_a_form_without_a_limit(path: str, long: str) -> None:
    assert extended(path) == long


@pytest.mark.parametrize(
    "name", ["a", "a.txt", "con1", "nulx", "COM10", ".hidden", "a b", "ä", "~"]
)
def test_an_ordinary_name_is_fit(name: str) -> None:
    assert why_unfit(name) == ""


@pytest.mark.parametrize("name", ["nul", "NUL.tar.gz", "aux ", "LPT\u00b9", "CONIN$", "prn .x"])
def test_names_of_devices_are_not(name: str) -> None:
    assert "device" in why_unfit(name)


def test_every_error_name_in_the_table_has_its_number() -> None:
    common, special = TABLES["windows"]
    names = {*common, *(name for row in special.values() for name in row)}
    assert names - {"NOEFFECT", "SHORT"} <= w.NUMBERS.keys()


@pytest.mark.parametrize(
    ("primitive", "number", "meaning"),
    [
        (Primitive.HARDLINK, 183, Condition.EXISTS),
        (Primitive.HARDLINK, 17, Condition.CROSS_DEVICE),
        (Primitive.HARDLINK, 1142, Condition.TOO_MANY_LINKS),
        (Primitive.HARDLINK, 5, Condition.DENIED),
        (Primitive.SYMLINK, 1314, Condition.DENIED),
        (Primitive.CLONE_FILE, 1, Condition.UNSUPPORTED),
        (Primitive.CLONE_FILE, 50, Condition.UNSUPPORTED),
        (Primitive.CLONE_FILE, 87, Condition.ATTRIBUTE),
        (Primitive.CLONE_FILE, 347, Condition.TOO_MANY_LINKS),
        (Primitive.EXCHANGE, 32, Condition.BUSY),
        (Primitive.EXCHANGE, 5, Condition.BUSY),
        (Primitive.RENAME, 5, Condition.BUSY),
        (Primitive.COPY, 5, Condition.DENIED),
        (Primitive.COPY, 112, Condition.NO_SPACE),
        (Primitive.COPY, 19, Condition.READ_ONLY),
        (Primitive.CREATE, 123, Condition.OTHER),
    ],
)
def test_a_winerror_means_the_same_word_as_elsewhere(
    primitive: Primitive, number: int, meaning: Condition
) -> None:
    platform = WindowsPlatform(none())
    assert condition_of("windows", primitive, platform.error_name(refused(number))) is meaning


def none() -> Calls:
    """Return calls that nobody makes."""

    def call(*arguments: Any) -> Any:
        raise AssertionError(arguments)

    return Calls(
        **{
            field.name: call
            for field in dataclasses.fields(Calls)
            if field.default is dataclasses.MISSING
        }
    )


def test_an_error_of_python_has_a_winerror_too() -> None:
    platform = WindowsPlatform(none())
    assert platform.error_name(FileNotFoundError(2, "gone")) == "ERROR_FILE_NOT_FOUND"
    assert platform.error_name(CheckFailed("SHORT", "half")) == "SHORT"
    assert platform.error_name(OSError("of nothing")) == ""
    assert winerror_of(refused(1142)) == 1142
    assert isinstance(refused(183), FileExistsError)
    assert isinstance(refused(3), FileNotFoundError)


def test_times_are_steps_of_a_hundred_nanoseconds_since_1601() -> None:
    assert filetime(0) == 0  # "leave it"
    assert filetime(1_000_000_000_123_456_789) == 126_444_736_001_234_567
    assert filetime(-(10**20)) == 1


def test_a_rename_is_asked_for_in_utf_16() -> None:
    data = rename_information("\\\\?\\C:\\ä", 0x43)
    flags, root, length = struct.unpack_from("@IPI", data)
    assert (flags, root) == (0x43, 0)
    assert data[20:][:length].decode("utf-16-le") == "\\\\?\\C:\\ä"


def access_list(*entries: tuple[int, int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<BBH", kind, flags, 4 + len(rest)) + rest for kind, flags, rest in entries
    )
    head = struct.pack("<BBHHH", 2, 0, 8 + len(body), len(entries), 0)
    return struct.pack("<BBHIIII", 1, 0, 0x8004, 0, 0, 0, 20) + head + body


def test_what_is_inherited_is_the_same_whether_it_was_inherited_before() -> None:
    own = access_list((0, 0x3, b"everyone"), (0, 0x0, b"only here"))
    taken_over = access_list((0, 0x13, b"everyone"))
    assert inherited_entries(own) == inherited_entries(taken_over) == ((0, 0x3, b"everyone"),)
    assert inherited_entries(access_list((0, 0x3, b"others"))) != inherited_entries(own)
    assert inherited_entries(b"") == ()
    assert inherited_entries(struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)) == ()


def test_what_is_kept_for_the_pair_and_what_for_a_file_is_as_on_linux() -> None:
    for edge in REFERENCE.of("windows"):
        if edge.mode is not None and edge.fallback is not None:
            assert edge.fallback is LinkMode.COPY
        if edge.condition.scope is Scope.PAIR and edge.mode is not None:
            assert edge.then is LinkMode.COPY


class Counted:
    """Calls that are counted, one of which fails."""

    def __init__(self, calls: Calls, at: int = 0, number: int = 0) -> None:
        self.count = 0
        self.hit = ""
        self._at, self._number = at, number
        self.calls = dataclasses.replace(
            calls,
            **{
                field.name: self._wrap(field.name, getattr(calls, field.name))
                for field in dataclasses.fields(Calls)
                if field.name not in ("close", "sleep", "extended", "access")
            },
        )

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self._at:
                self.hit = name
                raise refused(self._number)
            return call(*arguments)

        return counted


@pytest.mark.modelled
@pytest.mark.parametrize("posix", [True, False])
@pytest.mark.parametrize("number", [112, 5, 32])
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.HARDLINK])
def test_whichever_call_fails_the_target_is_old_or_new(
    stand: Stand, mode: LinkMode, number: int, *, posix: bool
) -> None:
    stand.volume(posix=posix)
    files = {"a": b"a" * 5000, "ns/b": b"bb", "new/c": b"c"}
    source, target = fill(stand, files)
    before = {"a": b"old a", "ns/b": b"old b", "ns/mine": b"mine"}

    def rebuild() -> None:
        assert stand.model is not None
        for directory, names, found in os.walk(target, topdown=False):
            for name in found:
                os.unlink(os.path.join(directory, name))
            for name in names:
                os.rmdir(os.path.join(directory, name))
        for name, content in before.items():
            stand.put(f"target/{name}", content, stand.there)

    rebuild()
    plain = Counted(stand.calls)
    link_tree(source, target, mode=mode, platform=WindowsPlatform(plain.calls))
    after = {name: seen[0] for name, seen in tree(target).items()}
    assert after == {**before, **files}
    ended = set()
    for at in range(1, plain.count + 1):
        rebuild()
        faulty = Counted(stand.calls, at, number)
        left: tuple[str, ...] | None = None
        try:
            link_tree(source, target, mode=mode, platform=WindowsPlatform(faulty.calls))
        except LinkError as error:
            left = error.left
        found = {name: seen[0] for name, seen in tree(target).items()}
        ended.add("new" if left is None else "old")
        assert found == (after if left is None else before), (at, faulty.hit)
        assert not left, (at, faulty.hit)
    assert ended == {"old", "new"}
    assert {name: seen[0] for name, seen in tree(source).items()} == files
