"""Eight linkers, real processes, one target: one is made to fail, another is killed.

Nothing of the others is lost, no file is a mixture, and after the last run nothing temporary stays.
Modes, sources and roles change from round to round; the moments are those of the scheduler.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.journal import RESERVED, SAVED, STAGE
from linker.platforms.linux import CALLS, Calls
from pytest_linkmode.layouts import TestFilesystem
from tests import profiles
from tests.linker import trees
from tests.linker.seams import REFLINKING, Deed, Fault, Tap, die
from tests.linker.trees import Directory, File, Symlink, Tree

LINKERS = 8
FAILING, KILLED = 2, 5
"""Which of them are made to fail, and killed."""

PATIENCE = 20 if profiles.NAME == "linker-long" else 1


def source_of(number: int) -> Tree:
    """Return what a linker brings: shared names with its own bytes, and names of its own."""
    own = bytes([ord("a") + number])
    return {
        "shared.py": File(own * 3),
        "ns/__init__.py": File(own * (1 + number * 997), mode=0o755 if number % 2 else 0o644),
        "ns/deep/data": File(trees.noise(20_000 + number, number)),
        "ns/link": Symlink(f"to-{number}"),
        "ns/void": Directory(),
        "void": Directory(),
        f"ns/only_{number}.py": File(own),
        f"own_{number}/f": File(own * 9),
        f"own_{number}/empty": Directory(),
    }


@dataclass
class Linker:
    """One process, the source it links from, and how it ended."""

    number: int
    source: str
    content: Tree
    mode: LinkMode
    deed: Deed | None
    pid: int = 0
    status: int = 0
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def ended_well(self) -> bool:
        return bool(self.said.get("linked"))

    @property
    def left(self) -> list[str]:
        return list(self.said.get("left", []))


def killing(at: int) -> Deed:
    def deed(number: int, name: str) -> None:
        if number == at:
            die()

    return deed


def run_together(linkers: list[Linker], target: str, way: Calls) -> None:
    """Start all linkers at one moment, each in a process of its own, and wait for them."""
    gate, opener = os.pipe()
    answers = {}
    for linker in linkers:
        reader, writer = os.pipe()
        linker.pid = os.fork()
        if linker.pid == 0:
            os.close(opener)
            _link_and_exit(linker, target, way, gate, writer)
        os.close(writer)
        answers[linker.number] = reader
    os.close(gate)
    os.close(opener)
    for linker in linkers:
        with open(answers[linker.number], "rb") as reading:
            said = reading.read()
        linker.said = json.loads(said) if said else {}
        linker.status = os.waitstatus_to_exitcode(os.waitpid(linker.pid, 0)[1])


def _link_and_exit(linker: Linker, target: str, way: Calls, gate: int, writer: int) -> None:
    status = 1
    try:
        platform = Tap(linker.deed, way).platform
        os.read(gate, 1)  # until the parent has started them all
        try:
            report = link_tree(linker.source, target, mode=linker.mode, platform=platform)
            said: dict[str, Any] = {"linked": True, "leftovers": report.leftovers}
        except LinkError as error:
            said = {"left": error.left, "error": str(error)}
        os.write(writer, json.dumps(said).encode())
        status = 0
    finally:
        os._exit(status)


def wrong(linkers: list[Linker], target: str, before: Tree) -> list[str]:
    """Return in words what is not as it must be after all have ended."""
    after = trees.snapshot(target)
    found = []
    for linker in linkers:
        expected = -signal.SIGKILL if linker.number == KILLED and not linker.said else 0
        if linker.status != expected:
            found.append(f"linker {linker.number} ended with {linker.status}")
        if linker.number not in (FAILING, KILLED) and not linker.ended_well:
            found.append(f"linker {linker.number} failed: {linker.said}")
        if linker.said.get("leftovers"):
            found.append(f"linker {linker.number} leaves {linker.said['leftovers']}")
    winners = [linker for linker in linkers if linker.ended_well]
    may_show = [linker for linker in linkers if linker.number != FAILING or linker.ended_well]
    failed = next(linker for linker in linkers if linker.number == FAILING)
    for path in sorted({path for linker in linkers for path in linker.content} | set(before)):
        bringers = [linker for linker in may_show if path in linker.content]
        seen = after.get(path)
        if seen is None:
            if path in before or any(path in linker.content for linker in winners):
                found.append(f"{path} is lost")
            continue
        entries = [linker.content[path] for linker in bringers]
        entries += [before[path]] if path in before else []
        if path in failed.left:  # allowed to stay: nobody could tell whose it is
            entries.append(failed.content[path])
        if not any(shows(f"{target}/{path}", entry) for entry in entries):
            found.append(f"{path} is of nobody who may show there: {seen.content[:20]!r}")
    known = {path for linker in linkers for path in linker.content} | set(before)
    known |= {above for path in known for above in trees.parents(path)}
    for path in after:
        name = path.split("/")[0]
        if path not in known and not name.startswith(RESERVED):
            found.append(f"{path} is of nobody")
        if name.startswith(SAVED) and not any(said.endswith(name) for said in failed.left):
            found.append(f"{name} is left and not listed")
    return found


def shows(place: str, entry: object) -> bool:
    """Return whether what is at a place is this entry, whole."""
    if isinstance(entry, Symlink):
        return os.path.islink(place) and os.readlink(place) == entry.text
    if isinstance(entry, Directory):
        return os.path.isdir(place)
    assert isinstance(entry, File)
    if not os.path.isfile(place):
        return False
    with open(place, "rb") as reading:
        content = reading.read()
    return content == entry.content and os.stat(place).st_mode & 0o777 == entry.mode


def stages(ground: str) -> list[str]:
    """Return every reserved name that stands for a stage, in the target and beside it."""
    return [path for path in trees.snapshot(ground) if path.rpartition("/")[2].startswith(STAGE)]


@contextmanager
def fresh_round(ground: str, before: Tree | None) -> Iterator[str]:
    target = f"{ground}/target"
    if before is not None:
        trees.build(target, before)
    try:
        yield target
    finally:
        for name in os.listdir(ground):
            if not name.startswith("source"):
                trees.remove(f"{ground}/{name}")


TARGETS: tuple[Tree | None, ...] = (
    None,
    {},
    {"ns/__init__.py": File(b"old"), "ns/kept": File(b"kept"), "shared.py": File(b"old")},
)
MODES = list(LinkMode)


def rounds(
    ground: str, count: int, *, same: bool, calls: int, way: Calls = REFLINKING
) -> Iterator[tuple[int, str, list[str]]]:
    """Run rounds; yield each one's number and what was wrong. `same` gives all one source."""
    contents = [source_of(0 if same else number) for number in range(LINKERS)]
    for number, content in enumerate(contents):
        if not (same and number):
            trees.build(f"{ground}/source-{number}", content)
    for number in range(count):
        dice = random.Random(number)
        before = TARGETS[number % len(TARGETS)]
        offset = number // len(TARGETS)
        linkers = [
            Linker(
                which,
                f"{ground}/source-{0 if same else which}",
                contents[which],
                MODES[(which + offset * (1 + which // 4)) % 4],
                None,
            )
            for which in range(LINKERS)
        ]
        linkers[FAILING].deed = Fault(dice.randrange(1, calls), errno.EIO)
        linkers[KILLED].deed = killing(dice.randrange(1, calls))
        with fresh_round(ground, before) as target:
            run_together(linkers, target, way)
            found = wrong(linkers, target, before or {})
            if len(stages(ground)) > 2:
                found.append(
                    f"more than what the killed one had locked's stage stays: {stages(ground)}"
                )
            last = link_tree(linkers[0].source, target, mode=LinkMode.COPY)
            if stages(ground) or last.leftovers:
                found.append(f"{stages(ground)} stay after the last run")
            yield number, ", ".join(f"{one.mode}" for one in linkers), found


@pytest.mark.parametrize("content", ["same", "different"])
def test_eight_linkers_one_failing_one_killed(scene: str, content: str) -> None:
    same = content == "same"
    failures = [
        f"round {number} ({modes}): {found}"
        for number, modes, found in rounds(scene, 60 * PATIENCE, same=same, calls=150)
        if found
    ]
    assert not failures, "\n".join([f"{len(failures)} rounds", *failures[:10]])


def test_eight_linkers_on_a_real_filesystem(linkmode_fs: TestFilesystem) -> None:
    """Where inodes are numbered, freed and found again in other ways than in memory."""
    failures = [
        f"round {number} ({modes}): {found}"
        for number, modes, found in rounds(
            str(linkmode_fs.path), 8 * PATIENCE, same=False, calls=150, way=CALLS
        )
        if found
    ]
    assert not failures, "\n".join([f"{len(failures)} rounds", *failures[:10]])
