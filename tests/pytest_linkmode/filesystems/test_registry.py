"""What outlives its process in the namespace of the host is known, and undone; nothing else is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import kernel
from pytest_linkmode.filesystems import registry
from pytest_linkmode.filesystems.registry import FOUND, GONE, KEPT, UNDONE, Finding, clean

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]

LEFT_BEHIND = """
own_host()

def leave(settings=Settings(namespace="host")):
    workshop = Workshop(namespaces.find_place("host"), settings)
    workshop.filesystem("ext4")
    workshop.filesystem("disk")
    workshop.place(parse("ext4+bind"))
    open(workshop.directory("disk") + "/file", "w").close()
    die()

def mine():
    return [m.target for m in kernel.mounts() if m.target.startswith(os.environ["TMPDIR"])]

def on_disk():
    found = []
    for directory, names, files in os.walk(os.environ["TMPDIR"]):
        found += [n for n in names + files if not n.startswith((".std", "pytest-linkmode"))]
    return sorted(found)

def notes():
    return os.listdir(registry.directory())

def rows(findings):
    return [[f.step, f.action, f.why] for f in findings]
"""


def left_by_the_dead(notes: Path, *steps: dict[str, object], **owner: object) -> Path:
    """Write down `steps` as a process would have that is gone now."""
    path = notes / "1-dead.steps"
    first = {"pid": 1, "start": -1, "boot": "another boot", **owner}
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *steps)))
    return path


def of_this_boot() -> dict[str, object]:
    return {"boot": registry._boot()}


# After a kill


@needs_root
def test_what_a_killed_process_left_is_undone(script: Script) -> None:
    seen, found, after = script(
        LEFT_BEHIND
        + """
assert in_child(leave) == -signal.SIGKILL
seen = [len(mine()), len(on_disk())]
found = rows(registry.clean())
show([seen, found, [mine(), on_disk(), notes(), rows(registry.clean())]])
"""
    )
    assert seen[0] == 3
    assert seen[1] >= 5
    assert [step for step, _, _ in found] == ["mount", "point"] * 2 + ["tree", "mount", "point"]
    assert {action for _, action, _ in found} == {UNDONE}
    assert after == [[], [], [], []]


@needs_root
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["mkdir", "mount", "unmount"])
def test_a_kill_around_a_step_leaves_nothing_that_is_not_noted(
    script: Script, step: str, moment: str
) -> None:
    after = script(
        LEFT_BEHIND
        + """
step, moment = arguments
def victim():
    module = os if step == "mkdir" else kernel
    place = namespaces.find_place("host")
    workshop = Workshop(place, Settings())
    workshop.filesystem("tmpfs")
    real = getattr(module, step)
    def dying(*a, **k):
        if moment == "before":
            die()
        real(*a, **k)
        die()
    setattr(module, step, dying)
    workshop.filesystem("disk")
    workshop.filesystem("ext4")
    workshop.close()
assert in_child(victim) == -signal.SIGKILL
registry.clean()
show([mine(), on_disk(), notes()])
""",
        step,
        moment,
    )
    assert after == [[], [], []]


@needs_root
def test_a_dry_run_shows_and_touches_nothing(script: Script) -> None:
    shown, before, after = script(
        LEFT_BEHIND
        + """
in_child(leave)
before = [mine(), on_disk(), notes()]
shown = rows(registry.clean(dry_run=True))
show([shown, before, [mine(), on_disk(), notes()]])
registry.clean()
"""
    )
    assert len(shown) == 7
    assert {action for _, action, _ in shown} == {FOUND}
    assert after == before


@needs_root
def test_what_lives_is_left_alone(script: Script) -> None:
    script(
        LEFT_BEHIND
        + """
workshop = Workshop(namespaces.find_place("host"), Settings())
workshop.filesystem("tmpfs")
workshop.filesystem("disk")
before = [mine(), on_disk(), notes()]
assert in_child(lambda: show(rows(registry.clean()))) == 0
assert [mine(), on_disk(), notes()] == before
workshop.close()
assert [mine(), on_disk(), notes()] == [[], [], []]
"""
    )


@needs_root
def test_what_is_in_use_stays_noted_until_it_is_free(script: Script) -> None:
    first, second = script(
        LEFT_BEHIND
        + """
in_child(lambda: leave())
ext4 = next(m.target for m in kernel.mounts() if m.fstype == "ext4" and m.target in mine())
user = open(ext4 + "/busy", "w")
first = rows(registry.clean())
assert mine() == [ext4] and notes()
user.close()
show([first, rows(registry.clean())])
assert [mine(), on_disk(), notes()] == [[], [], []]
"""
    )
    assert ["mount", KEPT, "umount2: Device or resource busy"] in first
    assert second == [
        *(["mount", GONE, ""], ["point", GONE, ""]) * 2,
        ["tree", GONE, ""],
        ["mount", UNDONE, ""],
        ["point", UNDONE, ""],
    ]


@needs_root
def test_what_somebody_mounted_there_since_is_left_alone(script: Script) -> None:
    found, left = script(
        LEFT_BEHIND
        + """
in_child(lambda: leave())
ext4 = next(m.target for m in kernel.mounts() if m.fstype == "ext4" and m.target in mine())
kernel.unmount(ext4)
kernel.mount("theirs", ext4, "tmpfs")
open(ext4 + "/precious", "w").close()
found = rows(registry.clean())
show([found, [mine() == [ext4], os.listdir(ext4), notes()]])
"""
    )
    assert ["mount", KEPT, "tmpfs of theirs is mounted there now"] in found
    assert left[0]
    assert left[1] == ["precious"]


@needs_root
def test_images_with_names_are_removed_too(script: Script) -> None:
    script(
        LEFT_BEHIND
        + """
real = os.open
def without_tmpfile(path, flags, *more, **named):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(95, "not here", path)
    return real(path, flags, *more, **named)
def victim():
    os.open = without_tmpfile
    processes.run = lambda *a, **k: die()
    leave()
assert in_child(victim) == -signal.SIGKILL
assert any(name.endswith(".image") for name in os.listdir(namespaces.stable_directory()))
assert rows(registry.clean()) == [["file", "undone", ""]]
assert [mine(), on_disk(), notes()] == [[], [], []]
"""
    )


# Whose they are


def test_a_recycled_pid_does_not_keep_what_the_dead_left(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    step = {"step": "point", "id": 1, "path": str(tmp_path / "left")}
    path = left_by_the_dead(notes, step, pid=os.getpid(), **of_this_boot())
    assert clean() == (Finding("point", str(tmp_path / "left"), os.getpid(), UNDONE),)
    assert not (tmp_path / "left").exists()
    assert not path.exists()


def test_the_living_are_known_by_pid_start_and_boot(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    step = {"step": "point", "id": 1, "path": str(tmp_path / "left")}
    start = registry._start_time(os.getpid())
    alive = {"pid": os.getpid(), "start": start, **of_this_boot()}
    left_by_the_dead(notes, step, **alive)
    assert clean() == ()
    assert (tmp_path / "left").is_dir()
    left_by_the_dead(notes, step, **{**alive, "boot": "the one before"})
    assert [finding.action for finding in clean()] == [UNDONE]


def test_who_is_gone_but_not_waited_for_does_not_live() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert registry._start_time(child) is None
    finally:
        os.waitpid(child, 0)


def test_of_one_run_only_what_its_workers_left_is_undone(notes: Path, tmp_path: Path) -> None:
    for name in ("other", "own"):
        (tmp_path / name).mkdir()
        step = {"step": "point", "id": 1, "path": str(tmp_path / name)}
        left_by_the_dead(notes, step, run=name).rename(notes / f"9-{name}.steps")
    assert [finding.path for finding in clean(run="own")] == [str(tmp_path / "own")]
    assert [finding.path for finding in clean()] == [str(tmp_path / "other")]


def test_notes_that_somebody_holds_are_passed_over(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    path = left_by_the_dead(notes, {"step": "point", "id": 1, "path": str(tmp_path / "left")})
    with open(path) as held:
        assert registry._lock(held.fileno())
        assert clean() == (), "another clean is at work on it"
    assert [finding.action for finding in clean()] == [UNDONE]


def test_two_at_once_undo_each_step_once(notes: Path, tmp_path: Path) -> None:
    import threading

    for number in range(20):
        (tmp_path / f"left{number}").mkdir()
        step = {"step": "point", "id": 1, "path": str(tmp_path / f"left{number}")}
        left_by_the_dead(notes, step).rename(notes / f"9{number}-dead.steps")
    findings: list[Finding] = []
    threads = [threading.Thread(target=lambda: findings.extend(clean())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [finding.action for finding in findings] == [UNDONE] * 20
    assert list(notes.iterdir()) == []


# What they say


def test_a_step_that_was_undone_is_not_undone_again(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    step = {"step": "point", "id": 1, "path": str(tmp_path / "theirs")}
    left_by_the_dead(notes, step, {"undone": 1})
    assert clean() == ()
    assert (tmp_path / "theirs").is_dir()
    assert list(notes.iterdir()) == []


def test_a_line_that_was_never_finished_is_no_step(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    path = left_by_the_dead(notes, {"step": "point", "id": 1, "path": str(tmp_path / "left")})
    with open(path, "a") as file:
        file.write('{"step": "tree", "id": 2, "pa')
    assert [finding.step for finding in clean()] == ["point"]


def test_a_directory_that_is_another_one_now_is_left_alone(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "precious").touch()
    step = {"step": "tree", "id": 1, "path": str(tmp_path / "tree")}
    left_by_the_dead(notes, step, {"made": 1, "inode": 1})
    assert [(finding.action, finding.why) for finding in clean()] == [
        (KEPT, "something else has that name now")
    ]
    assert (tmp_path / "tree" / "precious").exists()
    assert list(notes.iterdir()) == []


def test_a_tree_of_unknown_identity_goes_only_while_it_is_empty(
    notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    (tmp_path / "empty").mkdir()
    left_by_the_dead(
        notes,
        {"step": "tree", "id": 1, "path": str(tmp_path / "full")},
        {"step": "tree", "id": 2, "path": str(tmp_path / "empty")},
    )
    assert [(finding.path, finding.action) for finding in clean()] == [
        (str(tmp_path / "empty"), UNDONE),
        (str(tmp_path / "full"), KEPT),
    ]
    assert (tmp_path / "full" / "precious").exists()


def test_what_is_gone_already_is_said_to_be(notes: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere")
    left_by_the_dead(
        notes,
        {"step": "point", "id": 1, "path": path},
        {"step": "mount", "id": 2, "path": path, "fstype": "ext4", "source": "/dev/loop0"},
        {"step": "file", "id": 3, "path": path},
    )
    assert [finding.action for finding in clean()] == [GONE] * 3
    assert list(notes.iterdir()) == []


def test_nothing_is_swept_by_its_name(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "linkmode-disk-00000000").mkdir()
    (notes / "somebody.else").touch()
    assert clean() == ()
    assert (tmp_path / "linkmode-disk-00000000").is_dir()
    assert (notes / "somebody.else").exists()


def test_notes_without_an_owner_are_left_alone(notes: Path) -> None:
    (notes / "1-odd.steps").write_text("")
    (notes / "2-odd.steps").write_text('{"step": "point", "id": 1, "path": "/tmp"}\n')
    assert clean() == ()
    assert len(list(notes.iterdir())) == 2


def test_a_beginning_that_was_killed_is_removed(notes: Path) -> None:
    (notes / ".0-dead").touch()
    (notes / f".{os.getpid()}-beginning").touch()
    assert clean(dry_run=True) == ()
    assert len(list(notes.iterdir())) == 2
    assert clean() == ()
    assert [path.name for path in notes.iterdir()] == [f".{os.getpid()}-beginning"]


# How they are kept


def test_notes_exist_while_there_is_something_to_undo(notes: Path) -> None:
    ledger = registry.ledger()
    assert list(notes.iterdir()) == []
    first = ledger.note(registry.POINT, "/one")
    second = ledger.note(registry.POINT, "/two")
    ledger.forget(first)
    (path,) = notes.iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["pid"] == os.getpid()
    assert lines[1:] == [
        {"step": "point", "id": 1, "path": "/one"},
        {"step": "point", "id": 2, "path": "/two"},
        {"undone": 1},
    ]
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    ledger.forget(second)
    ledger.forget(second)
    assert list(notes.iterdir()) == []
    third = ledger.note(registry.POINT, "/three")
    assert len(list(notes.iterdir())) == 1
    ledger.forget(third)
    assert list(notes.iterdir()) == []


def test_a_process_can_end_although_its_notes_were_taken_away(notes: Path) -> None:
    ledger = registry.ledger()
    number = ledger.note(registry.POINT, "/one")
    for path in notes.iterdir():
        path.unlink()
    ledger.forget(number)
    assert list(notes.iterdir()) == []
