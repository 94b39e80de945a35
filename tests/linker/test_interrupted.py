"""A link is interrupted at any of its calls, as by Ctrl-C: before it, or when it had its effect.

Until all is linked the target is then as it was; afterwards it is as the link has made it, which
is said. In both cases nothing lies beside it, or what does is named in what is raised.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_file, link_tree
from linker.failures import insist, name_left
from linker.journal import STAGE
from linker.store import Store
from tests.linker import trees
from tests.linker.scenes import EXISTING, Scene, Watcher
from tests.linker.seams import Deed, Fault, Tap, descriptors
from tests.linker.trees import Directory, File, Tree
from tests.linker.verdicts import Ends, comparable, everything, reserved

LINKED = "it came when all was linked, which stays"

ORDINARY = pytest.mark.parametrize("user", ["ordinary-user"], indirect=True)
"""Whom read-only directories stop, so that there is more to undo."""


@dataclass
class Pressed:
    """Ctrl-C is pressed at these calls, `late` when they had their effect."""

    at: tuple[int, ...]
    late: bool = False
    hit: list[str] = field(default_factory=list)

    def __call__(self, number: int, name: str) -> None:
        if number in self.at:
            self.hit.append(name)
            raise KeyboardInterrupt


def notes(error: BaseException | None) -> list[str]:
    """Return what is said beside an error, and beside those that it came upon."""
    said: list[str] = []
    while error is not None:
        said += getattr(error, "__notes__", ())
        error = error.__cause__ or error.__context__
    return said


def interrupted(ends: Ends, deed: Deed) -> KeyboardInterrupt | None:
    """Link; return the interrupt that came out of it."""
    tap = ends.tap(deed)
    try:
        link_tree(ends.scene.source, ends.scene.target, mode=ends.mode, platform=tap.platform)
    except KeyboardInterrupt as error:
        return error
    finally:
        tap.close()
    return None


def judged(ends: Ends, error: BaseException) -> str:
    """Return which end it is, and in words what is wrong with it."""
    if LINKED in notes(error):
        now = comparable(everything(ends.scene), ends.mode)
        wrong = [path for path in {*now, *ends.after} if now.get(path) != ends.after.get(path)]
        return f"linked, but for {wrong}" if wrong else "linked"
    wrong = ends.scene.untouched()
    return f"undone, but for {wrong}" if wrong else "undone"


@ORDINARY
@pytest.mark.parametrize("existing", [None, EXISTING], ids=["new-target", "existing-target"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.HARDLINK])
def test_an_interrupt_at_any_call_undoes_the_link_or_comes_when_all_is_done(
    scene: str, mode: LinkMode, existing: Any, *, late: bool
) -> None:
    ends = Ends(Scene(scene, existing=existing), mode)
    seen: set[str] = set()
    held = descriptors()
    for at in range(1, ends.calls + 1):
        deed = Pressed((at,), late)
        error = interrupted(ends, deed)
        assert error is not None, f"{deed.hit} at {at}"
        end = judged(ends, error)
        assert end in ("undone", "linked"), f"{deed.hit} at {at}"
        assert notes(error) == ([LINKED] if end == "linked" else []), f"{deed.hit} at {at}"
        assert descriptors() == held, f"{deed.hit} at {at}"
        seen.add(end)
        ends.scene.rebuild()
    assert seen == {"undone", "linked"}


@ORDINARY
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", [LinkMode.COPY, LinkMode.HARDLINK])
def test_who_presses_twice_gets_the_same(scene: str, mode: LinkMode, *, late: bool) -> None:
    ends = Ends(Scene(scene), mode)
    twice = 0
    for at in range(1, ends.calls + 1, 11):
        for later in (1, 2, 3, 5, 8, 13, 34, 89):
            deed = Pressed((at, at + later), late)
            error = interrupted(ends, deed)
            assert error is not None
            twice += len(deed.hit) == 2
            assert judged(ends, error) in ("undone", "linked"), f"{deed.hit} at {deed.at}"
            ends.scene.rebuild()
    assert twice > 40


@ORDINARY
@pytest.mark.parametrize("mode", [LinkMode.SYMLINK, LinkMode.HARDLINK])
def test_who_never_stops_pressing_is_obeyed_and_told_what_is_left(
    scene: str, mode: LinkMode
) -> None:
    # A directory that hands on its group gets a stage of its own.
    ends = Ends(Scene(scene, existing={**EXISTING, "ns": Directory(0o2755)}), mode)
    named = inside = 0
    for at in range(1, ends.calls + 1, 3):
        error = interrupted(ends, Pressed(tuple(range(at, 10 * ends.calls))))
        assert error is not None
        left = [path.partition("/")[2] for path in everything(ends.scene) if reserved(path)]
        stages = [path for path in left if path.rpartition("/")[2].startswith(STAGE)]
        said = "".join(notes(error))
        named += bool(stages)
        inside += any(path.startswith("ns/") for path in stages)
        assert not [path for path in stages if path not in said], f"call {at}: {said}"
        assert not ends.torn(), f"call {at}"
        assert not ends.mended(), f"call {at}"
        ends.scene.rebuild()
    assert named
    assert inside


@ORDINARY
def test_an_interrupt_while_another_error_is_undone_is_the_one_that_is_raised(scene: str) -> None:
    ends = Ends(Scene(scene), LinkMode.COPY)
    came = 0
    for at in range(20, ends.calls, 11):
        fault = Fault(at, errno.EIO)
        for later in (2, 7, 20):

            def deed(number: int, name: str, fault: Fault = fault, later: int = later) -> None:
                fault(number, name)
                if number == fault.at + later:
                    raise KeyboardInterrupt

            try:
                error = interrupted(ends, deed)
            except LinkError:
                error = None
            if error is not None:
                came += isinstance(error.__cause__, LinkError)
                assert judged(ends, error) in ("undone", "linked")
            ends.scene.rebuild()
    assert came > 3


def test_what_was_linked_before_survives_an_interrupt_after_another_error(ground: str) -> None:
    """Names that are hard links of the source already: only the stage tells them from ours."""
    tree: Tree = {name: File(name.encode()) for name in "abc"}
    scene = Scene(ground, tree, {})

    def linked(deed: Deed | None) -> Tap:
        scene.rebuild()
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK)
        tap = Tap(deed)
        with suppress(LinkError, KeyboardInterrupt):
            link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=tap.platform)
        tap.close()
        return tap

    last = max(at for at, name in enumerate(linked(None).names, 1) if name == "renameat2")
    for later in range(1, linked(Fault(last, errno.EIO)).count - last + 1):
        fault, pressed = Fault(last, errno.EIO), Pressed((last + later,))

        def deed(number: int, name: str, fault: Deed = fault, pressed: Deed = pressed) -> None:
            fault(number, name)
            pressed(number, name)

        linked(deed)
        assert pressed.hit
        assert sorted(os.listdir(scene.target)) == ["a", "b", "c"], pressed.hit


def test_a_directory_above_goes_when_an_interrupt_comes_right_after_it_was_made(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})
    mkdir = os.mkdir

    def making(path: str, *given: Any, **options: Any) -> None:
        mkdir(path, *given, **options)
        if path == f"{ground}/x/y":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", making)
    with pytest.raises(KeyboardInterrupt):
        link_tree(f"{ground}/source", f"{ground}/x/y/z", mode=LinkMode.COPY)
    assert os.listdir(ground) == ["source"]


def test_an_observer_that_raises_of_what_failed_is_told_what_is_left(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a" * 5000), "b": File(b"b" * 5000)}, {})
    errors = {"ficlone": [errno.ENOSPC, errno.EOPNOTSUPP], "unlink": [errno.EACCES] * 99}

    def deed(number: int, name: str) -> None:
        if errors.get(name):
            error = errors[name].pop()
            raise OSError(error, os.strerror(error))

    class Angry(Watcher):
        def transition(self, transition: object) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        link_tree(
            scene.source,
            scene.target,
            mode=LinkMode.CLONE,
            platform=Tap(deed).platform,
            observer=Angry(),
        )
    stages = [name for name in os.listdir(scene.target) if name.startswith(STAGE)]
    assert stages
    said = "".join(caught.value.__notes__)  # of itself, not of what it came upon
    assert all(name in said for name in stages)


def test_an_observer_that_raises_when_all_is_linked_is_told_so(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "d/b": File(b"b")}, {"a": File(b"old")})

    class Angry(Watcher):
        def linked(self, report: object) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, observer=Angry())
    assert notes(caught.value) == [LINKED]
    assert trees.content(scene.now()).keys() == {"", "a", "d", "d/b"}
    assert scene.now()["a"].content == b"a"
    assert not scene.beside()


def test_directories_above_a_target_go_when_it_is_interrupted(ground: str) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})
    for link, target in ((link_tree, "x/y/target"), (link_file, "x/y/f")):
        source = f"{ground}/source" + ("/f" if link is link_file else "")
        tap = Tap()
        link(source, f"{ground}/{target}", mode=LinkMode.COPY, platform=tap.platform)
        trees.remove(f"{ground}/x")
        seen = set()
        for at in range(1, tap.count + 1):
            deed = Pressed((at,))
            pressed = Tap(deed)
            with pytest.raises(KeyboardInterrupt) as caught:
                link(source, f"{ground}/{target}", mode=LinkMode.COPY, platform=pressed.platform)
            pressed.close()
            linked = LINKED in notes(caught.value)
            assert os.path.exists(f"{ground}/{target}") is linked
            assert sorted(os.listdir(ground)) == (["source", "x"] if linked else ["source"])
            seen.add(linked)
            if linked:
                trees.remove(f"{ground}/x")
        assert seen == {True, False}


@pytest.mark.parametrize("link", [link_tree, link_file])
def test_who_interrupts_the_removal_of_directories_above_is_told_why_they_went(
    ground: str, monkeypatch: pytest.MonkeyPatch, link: Callable[..., object]
) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})
    source = f"{ground}/source" + ("/f" if link is link_file else "")
    pressed, rmdir = False, os.rmdir

    def full(number: int, name: str) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def pressing(path: str, **options: Any) -> None:
        nonlocal pressed
        if path == f"{ground}/x/y" and not pressed:
            pressed = True
            raise KeyboardInterrupt
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", pressing)
    with pytest.raises(KeyboardInterrupt) as caught:
        link(source, f"{ground}/x/y/z", mode=LinkMode.COPY, platform=Tap(full).platform)
    assert isinstance(caught.value.__cause__, LinkError)
    assert os.listdir(ground) == ["source"]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_interrupted_store_holds_whole_files_and_no_stage(ground: str, *, late: bool) -> None:
    trees.build(f"{ground}/source", {"a": File(b"a"), "b": File(b"b", 0o755), "d": Directory()})
    tap = Tap()
    manifest = Store(f"{ground}/store", platform=tap.platform).add(f"{ground}/source")
    for at in range(1, tap.count + 1):
        trees.remove(f"{ground}/store")
        deed = Pressed((at,), late)
        pressed = Tap(deed)
        with pytest.raises(KeyboardInterrupt):
            Store(f"{ground}/store", platform=pressed.platform).add(f"{ground}/source")
        pressed.close()
        assert set(os.listdir(f"{ground}/store")) <= {"store.json", "files"}, f"{deed.hit} at {at}"
        store = Store(f"{ground}/store")
        assert store.add(f"{ground}/source") == manifest
        store.check(manifest)


def ending(*answers: BaseException | list[str]) -> Callable[[], list[str]]:
    """Return a step that answers so, one time after another."""
    given = iter(answers)

    def step() -> list[str]:
        answer = next(given)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return step


def test_what_must_come_to_its_end_is_done_again_and_given_up_at_the_third_time() -> None:
    one, two, three = KeyboardInterrupt(), SystemExit(), KeyboardInterrupt()
    assert insist(ending(["a"])) == (["a"], None)
    assert insist(ending(one, ["a"])) == (["a"], one)
    assert insist(ending(one, two, [])) == ([], two)
    assert insist(ending(one, two, three, ["a"])) == (None, three)


def test_what_is_left_is_named_in_whatever_is_raised() -> None:
    error, interrupt, quiet = LinkError("x", left=("a",)), KeyboardInterrupt(), KeyboardInterrupt()
    name_left(error, ("b", "a"))
    name_left(interrupt, ("b", "a"))
    name_left(quiet, ())
    assert error.left == ("a", "b")
    assert notes(interrupt) == ["could not be undone: b, a"]
    assert notes(quiet) == []
