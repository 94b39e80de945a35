"""What a pair of directories can do is found by doing it, in the words of conditions."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linker import LinkMode
from linker.conditions import Condition, Primitive
from linker.policies import REFERENCE, UV
from linker.policy import Policy
from pytest_linkmode import capabilities, kernel
from pytest_linkmode.capabilities import CAPABILITIES, Capabilities, broken_promises, probe
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.layouts import Workshop, parse

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two directories on one filesystem that everybody has."""
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    return str(tmp_path / "source"), str(tmp_path / "target")


def failing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> list[int]:
    """Let the first clones fail with these errors; the rest succeed. The calls made so far."""
    calls: list[int] = []

    def ioctl(target: int, number: int, source: int) -> int:
        calls.append(number)
        if len(calls) <= len(numbers):
            raise OSError(numbers[len(calls) - 1], "made to fail")
        os.sendfile(target, source, 0, 1 << 20)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return calls


def only(pair: tuple[str, str]) -> Condition | None:
    return probe(*pair).results[Primitive.CLONE_FILE]


# For real


@needs_root
@pytest.mark.parametrize(
    ("layout", "clone", "hardlink"),
    [
        ("btrfs", None, None),
        ("xfs", None, None),
        ("xfs-noreflink", Condition.UNSUPPORTED, None),
        ("ext4", Condition.UNSUPPORTED, None),
        ("tmpfs", Condition.UNSUPPORTED, None),
        ("btrfs:tmpfs", Condition.CROSS_DEVICE, Condition.CROSS_DEVICE),
        ("tmpfs:btrfs", Condition.CROSS_DEVICE, Condition.CROSS_DEVICE),
        ("btrfs:xfs", Condition.CROSS_DEVICE, Condition.CROSS_DEVICE),
        ("btrfs+subvolume", None, Condition.CROSS_DEVICE),
        ("btrfs+bind", None, Condition.CROSS_DEVICE),
        ("xfs+bind", None, Condition.CROSS_DEVICE),
        ("ext4+bind", Condition.UNSUPPORTED, Condition.CROSS_DEVICE),
    ],
)
def test_every_primitive_meets_its_condition(
    workshop: Workshop, layout: str, clone: Condition | None, hardlink: Condition | None
) -> None:
    source, target = workshop.fresh(parse(layout))
    can = probe(source, target)
    assert can.results == {
        Primitive.CLONE_FILE: clone,
        Primitive.HARDLINK: hardlink,
        Primitive.SYMLINK: None,
        Primitive.COPY: None,
    }
    assert ("reflink" in can) == (clone is None)
    assert ("hardlink" in can) == (hardlink is None)
    assert ("cross-device" in can) == (hardlink is not None and clone is not None)
    assert os.listdir(source) == os.listdir(target) == [], "probing leaves nothing behind"


@needs_root
def test_a_nocow_directory_refuses_a_clone_by_attribute(workshop: Workshop) -> None:
    source, target = workshop.fresh(parse("btrfs"))
    flags = bytearray(8)
    directory = os.open(target, os.O_RDONLY)
    fcntl.ioctl(directory, 0x80086601, flags)  # FS_IOC_GETFLAGS
    flags[2] |= 0x80  # FS_NOCOW_FL
    fcntl.ioctl(directory, 0x40086602, bytes(flags))  # FS_IOC_SETFLAGS
    os.close(directory)
    can = probe(source, target)
    assert can.results[Primitive.CLONE_FILE] is Condition.ATTRIBUTE
    assert "reflink" not in can
    assert "cross-device" not in can


@needs_root
def test_a_read_only_target_answers_for_every_primitive(workshop: Workshop) -> None:
    source, target = workshop.fresh(parse("ext4"))
    read_only = 1
    kernel.mount(target, target, flags=kernel.MS_BIND)
    try:
        kernel.mount("none", target, flags=kernel.MS_BIND | 32 | read_only)  # MS_REMOUNT
        can = probe(source, target)
    finally:
        kernel.unmount(target)
    assert set(can.results.values()) <= {Condition.READ_ONLY, Condition.CROSS_DEVICE}
    assert can.results[Primitive.COPY] is Condition.READ_ONLY
    assert "symlink" not in can


@needs_root
def test_a_source_that_cannot_be_written_to_is_probed_by_a_sample(workshop: Workshop) -> None:
    source, target = workshop.fresh(parse("btrfs"))
    sample = os.path.join(source, "sample")
    Path(sample).write_bytes(os.urandom(capabilities.SAMPLE_SIZE))
    kernel.mount(source, source, flags=kernel.MS_BIND)
    try:
        kernel.mount("none", source, flags=kernel.MS_BIND | 32 | 1)
        with pytest.raises(OSError, match="Read-only"):
            probe(source, target)
        can = probe(source, target, sample=sample)
    finally:
        kernel.unmount(source)
    assert "reflink" in can
    assert os.listdir(source) == ["sample"]
    assert os.listdir(target) == []


@needs_root
def test_the_sample_is_large_incompressible_and_on_disk(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zlib

    real, seen = fcntl.ioctl, []

    def look(target: int, number: int, source: int) -> Any:
        data = os.pread(source, 1 << 20, 0)
        seen.append((len(data), len(zlib.compress(data)), os.fstat(source).st_blocks * 512))
        return real(target, number, source)

    monkeypatch.setattr(fcntl, "ioctl", look)
    probe(*workshop.fresh(parse("btrfs")))
    ((size, compressed, allocated),) = seen
    assert size >= 64 * 1024
    assert compressed >= size
    assert allocated >= size


# Whatever the error


@pytest.mark.parametrize(
    ("number", "condition"),
    [
        (errno.EXDEV, Condition.CROSS_DEVICE),
        (errno.EOPNOTSUPP, Condition.UNSUPPORTED),
        (errno.ENOTTY, Condition.UNSUPPORTED),
        (errno.ENOSYS, Condition.UNSUPPORTED),
        (errno.EINVAL, Condition.ATTRIBUTE),
        (errno.EPERM, Condition.DENIED),
        (errno.EACCES, Condition.DENIED),
        (errno.ETXTBSY, Condition.BUSY),
        (errno.ENOSPC, Condition.NO_SPACE),
        (errno.EIO, Condition.IO),
        (errno.EROFS, Condition.READ_ONLY),
        (errno.ENOTNAM, Condition.OTHER),
        (524, Condition.OTHER),
    ],
)
def test_any_error_has_a_condition(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, number: int, condition: Condition
) -> None:
    failing(monkeypatch, *[number] * 10)
    assert only(pair) is condition
    assert os.listdir(pair[0]) == os.listdir(pair[1]) == []


def test_what_is_only_not_ready_yet_is_tried_again(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, errno.EAGAIN, errno.EINTR)
    assert only(pair) is None
    assert len(calls) == 3


def test_what_never_gets_ready_is_given_up(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls = failing(monkeypatch, *[errno.EAGAIN] * 100)
    assert only(pair) is Condition.AGAIN
    assert 1 < len(calls) < 10


def test_success_without_effect_is_noticed(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *arguments: 0)
    can = probe(*pair)
    assert can.results[Primitive.CLONE_FILE] is Condition.NO_EFFECT
    assert "reflink" not in can


def test_a_clone_that_is_cut_short_is_noticed(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(target: int, number: int, source: int) -> int:
        os.sendfile(target, source, 0, 1000)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", half)
    assert only(pair) is Condition.SHORT


def test_a_link_and_a_symlink_that_do_nothing_are_noticed(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda source, target: Path(target).touch())
    monkeypatch.setattr(os, "symlink", lambda source, target: None)
    can = probe(*pair)
    assert can.results[Primitive.HARDLINK] is Condition.NO_EFFECT
    assert can.results[Primitive.SYMLINK] is Condition.NO_EFFECT


def test_a_target_that_folds_case_is_known(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "case-insensitive" not in probe(*pair)
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    assert "case-insensitive" in probe(*pair)


def test_a_target_that_is_not_there_can_do_nothing(pair: tuple[str, str]) -> None:
    can = probe(pair[0], pair[1] + "/absent")
    assert can.names == frozenset()
    assert set(can.results.values()) == {Condition.MISSING}
    assert os.listdir(pair[0]) == []


def test_a_user_who_may_not_write_is_denied(script: Script, everybodys_tmp: Path) -> None:
    results = script(
        """
        os.makedirs("source"); os.makedirs("target")
        os.chmod("source", 0o777); os.chmod("target", 0o555)
        become_nobody()
        can = probe("source", "target")
        show([list(can), sorted({str(condition) for condition in can.results.values()})])
        """,
        tmp=everybodys_tmp,
    )
    assert results == [[], ["denied"]]


def test_directories_may_be_relative(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(os.path.dirname(pair[0]))
    assert {"hardlink", "symlink"} <= probe("source", "target").names


# What follows from it


def results(**conditions: Condition) -> Capabilities:
    found: dict[Primitive, Condition | None] = dict.fromkeys(
        (Primitive.CLONE_FILE, Primitive.HARDLINK, Primitive.SYMLINK, Primitive.COPY)
    )
    found |= {Primitive[name]: condition for name, condition in conditions.items()}
    return Capabilities(frozenset(), found)


@pytest.mark.parametrize(
    ("can", "policy", "mode", "expected"),
    [
        (results(), REFERENCE, LinkMode.CLONE, LinkMode.CLONE),
        (results(CLONE_FILE=Condition.UNSUPPORTED), REFERENCE, LinkMode.CLONE, LinkMode.COPY),
        (results(CLONE_FILE=Condition.UNSUPPORTED), UV, LinkMode.CLONE, LinkMode.HARDLINK),
        (
            results(CLONE_FILE=Condition.CROSS_DEVICE, HARDLINK=Condition.CROSS_DEVICE),
            UV,
            LinkMode.CLONE,
            LinkMode.COPY,
        ),
        (results(HARDLINK=Condition.CROSS_DEVICE), REFERENCE, LinkMode.HARDLINK, LinkMode.COPY),
        (results(HARDLINK=Condition.CROSS_DEVICE), REFERENCE, LinkMode.CLONE, LinkMode.CLONE),
        (results(SYMLINK=Condition.DENIED), REFERENCE, LinkMode.SYMLINK, LinkMode.COPY),
    ],
)
def test_the_end_is_computed_from_what_was_probed_and_the_policy(
    can: Capabilities, policy: Policy, mode: LinkMode, expected: LinkMode
) -> None:
    assert can.expect(mode, policy) is expected


def test_an_end_in_an_error_is_an_error() -> None:
    full = results(COPY=Condition.NO_SPACE)
    with pytest.raises(LinkmodeError, match="copy meets no-space"):
        full.expect(LinkMode.COPY)
    assert full.outcome(LinkMode.COPY).mode is None
    assert full.expect(LinkMode.HARDLINK) is LinkMode.HARDLINK


def test_capabilities_read_like_a_set(pair: tuple[str, str]) -> None:
    can = probe(*pair)
    assert "hardlink" in can
    assert list(can) == sorted(can.names)
    assert len(can) == len(can.names)
    assert str(can) == ", ".join(sorted(can.names))
    assert str(Capabilities(frozenset(), {})) == "nothing"


def test_every_capability_has_its_reason(pair: tuple[str, str]) -> None:
    can = probe(*pair)
    assert can.why.keys() == CAPABILITIES.keys()
    assert can.names <= CAPABILITIES.keys()


@pytest.mark.parametrize(
    ("platform", "condition", "broken"),
    [
        ("windows", Condition.DENIED, False),
        ("windows", Condition.UNSUPPORTED, True),
        ("linux", Condition.DENIED, True),
    ],
)
def test_a_right_that_somebody_lacks_is_not_held_against_a_filesystem(
    tmp_path: Path, platform: str, condition: Condition, *, broken: bool
) -> None:
    found = probe(str(tmp_path), str(tmp_path))
    can = dataclasses.replace(
        found,
        names=found.names - {"symlink"},
        results={**found.results, Primitive.SYMLINK: condition},
        platform=platform,
    )
    assert bool(broken_promises(can, frozenset({"symlink"}), frozenset())) is broken


def test_broken_promises_say_what_happened(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EXDEV)
    can = probe(*pair)
    assert broken_promises(can, frozenset({"reflink"}), frozenset({"hardlink"})) == (
        "no reflink: clone-file answers EXDEV (cross-device)",
        "hardlink, which it must not have: hardlink works",
    )
    assert broken_promises(can, frozenset({"hardlink"}), frozenset({"reflink"})) == ()
