"""The policy UV: what uv does when it installs a wheel, as a graph that the engine walks.

One state for the whole wheel, the first error decides, the second one ends it with half a tree.
The real uv is held against this in tests/uv.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.conditions import Condition
from linker.policies import UV
from linker.policy import Memory, Step
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees
from tests.linker.seams import REFLINKING, Tap
from tests.linker.trees import Directory, File, Tree

WHEEL: Tree = {
    "pkg/__init__.py": File(),
    "pkg/a.py": File(b"a"),
    "pkg/b.py": File(b"b"),
    "pkg/sub/c.py": File(b"c"),
    "pkg-1.0.dist-info/RECORD": File(b"record"),
}


class Refusing:
    """Lets the calls of some names fail, each from one call on and as often as told."""

    late = False

    def __init__(self, **errors: tuple[int, int, int]) -> None:
        self._errors = errors  # name -> (error, first call of that name, how many)
        self.asked: dict[str, int] = {}

    def __call__(self, number: int, name: str) -> None:
        count = self.asked[name] = self.asked.get(name, 0) + 1
        error, first, times = self._errors.get(name, (0, 1, 0))
        if first <= count < first + times:
            raise injected(error)


class Wheel:
    """A wheel unpacked in a cache, and an environment."""

    def __init__(self, root: str) -> None:
        self.source, self.target = f"{root}/cache", f"{root}/venv"
        trees.build(self.source, WHEEL)
        trees.build(self.target, {"other": File(b"other")})

    def install(self, refusing: Refusing | None = None, **options: Any) -> LinkReport:
        tap = Tap(refusing, REFLINKING)
        return link_tree(self.source, self.target, policy=UV, platform=tap.platform, **options)

    def installed(self) -> set[str]:
        return {path for path, seen in trees.snapshot(self.target).items() if seen.kind == "file"}


@pytest.fixture
def wheel(ground: str) -> Wheel:
    return Wheel(ground)


def test_the_default_is_clone_and_nothing_is_undone() -> None:
    assert UV.default is LinkMode.CLONE
    assert not UV.undo
    assert (UV.memory, UV.confirmations, UV.retries) == (Memory.TREE, 1, 1)


def test_where_all_works_all_is_cloned(wheel: Wheel) -> None:
    report = wheel.install()
    assert report.counts == {LinkMode.CLONE: len(WHEEL)}
    assert not report.transitions
    assert wheel.installed() == {"other", *WHEEL}
    assert sorted(os.listdir(os.path.dirname(wheel.target))) == ["cache", "venv"]


@pytest.mark.parametrize(
    "number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EPERM, errno.EIO, errno.ENOSPC, errno.EAGAIN]
)
def test_the_first_error_of_any_kind_moves_the_whole_wheel_on(wheel: Wheel, number: int) -> None:
    """From an isolating mode to a sharing one: what REFERENCE never does, and the report says."""
    refusing = Refusing(ficlone=(number, 1, 1))
    report = wheel.install(refusing)
    assert refusing.asked["ficlone"] == 1, "never tried again, though it would work"
    assert report.counts == {LinkMode.HARDLINK: len(WHEEL)}
    assert [told.edge.fallback for told in report.transitions] == [LinkMode.HARDLINK]
    assert os.path.samefile(f"{wheel.source}/pkg/a.py", f"{wheel.target}/pkg/a.py")


def test_clone_then_hardlink_then_copy(wheel: Wheel) -> None:
    refusing = Refusing(ficlone=(errno.EXDEV, 1, 99), link=(errno.EXDEV, 1, 1))
    report = wheel.install(refusing)
    assert report.counts == {LinkMode.COPY: len(WHEEL)}
    assert [(told.edge.mode, told.edge.fallback) for told in report.transitions] == [
        (LinkMode.CLONE, LinkMode.HARDLINK),
        (LinkMode.HARDLINK, LinkMode.COPY),
    ]


@pytest.mark.parametrize(
    ("mode", "call"), [(LinkMode.HARDLINK, "link"), (LinkMode.SYMLINK, "symlink")]
)
def test_hardlink_and_symlink_fall_to_copy(wheel: Wheel, mode: LinkMode, call: str) -> None:
    report = wheel.install(Refusing(**{call: (errno.EPERM, 1, 1)}), mode=mode)
    assert report.counts == {LinkMode.COPY: len(WHEEL)}


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EAGAIN, errno.EIO])
def test_an_error_after_a_success_ends_it_with_half_a_tree(wheel: Wheel, number: int) -> None:
    with pytest.raises(LinkError) as caught:
        wheel.install(Refusing(ficlone=(number, 3, 1)))
    there = wheel.installed() - {"other"}
    assert len(there) == 2, "what was installed before the error stays"
    assert caught.value.path in WHEEL.keys() - there
    for path in there:
        with open(f"{wheel.target}/{path}", "rb") as reading:
            entry = WHEEL[path]
            assert isinstance(entry, File)
            assert reading.read() == entry.content
    assert not [name for name in os.listdir(wheel.target) if name.startswith(".linkmode")]


def test_the_first_hard_link_after_clones_is_a_success_too(wheel: Wheel) -> None:
    refusing = Refusing(ficlone=(errno.EXDEV, 1, 1), link=(errno.EXDEV, 2, 1))
    with pytest.raises(LinkError):
        wheel.install(refusing)
    assert len(wheel.installed() - {"other"}) == 1


def test_an_empty_file_is_as_good_a_witness_as_any(ground: str) -> None:
    wheel = Wheel(ground)
    trees.remove(f"{wheel.source}/pkg-1.0.dist-info")
    refusing = Refusing(ficlone=(errno.EXDEV, 1, 1))
    assert wheel.install(refusing).counts == {LinkMode.HARDLINK: len(WHEEL) - 1}


def test_what_exists_is_replaced_and_is_no_error(wheel: Wheel) -> None:
    trees.build(f"{wheel.target}/pkg", {"a.py": File(b"old"), "kept.py": File(b"kept")})
    old = os.stat(f"{wheel.target}/pkg/a.py").st_ino
    report = wheel.install()
    assert report.counts == {LinkMode.CLONE: len(WHEEL)}
    assert report.replaced == 1
    assert os.stat(f"{wheel.target}/pkg/a.py").st_ino != old
    assert wheel.installed() == {"other", "pkg/kept.py", *WHEEL}


def test_the_same_stat_as_in_every_policy(wheel: Wheel) -> None:
    trees.remove(wheel.source)
    trees.build(
        wheel.source, {"pkg": Directory(0o555), "pkg/tool": File(b"#!", 0o755), "e": Directory()}
    )
    wheel.install()
    seen, wanted = trees.snapshot(wheel.target), trees.snapshot(wheel.source)
    for path in ("pkg", "pkg/tool", "e"):
        assert seen[path].mode == wanted[path].mode, path
    assert seen["pkg/tool"].mtime_ns == wanted["pkg/tool"].mtime_ns


def test_the_graph_has_every_condition_of_every_mode_but_exists() -> None:
    for mode in (LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK):
        of_mode = [edge for edge in UV.edges if edge.mode is mode]
        initial = {edge.condition for edge in of_mode if edge.state == "initial"}
        established = {edge.condition for edge in of_mode if edge.state == "established"}
        assert initial == established == set(Condition) - {Condition.EXISTS}
        ends = {edge.then for edge in of_mode if edge.state == "established"}
        # A cached file with too many links is made anew.
        assert ends == ({Step.ABORT, Step.RETRY} if mode is LinkMode.HARDLINK else {Step.ABORT})
