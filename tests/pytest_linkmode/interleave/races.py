"""Linkers of overlapping packages in one target, and what must hold however they were scheduled.

A `Race` builds the sources once and puts the target back before each schedule; `wrong` holds what
is there afterwards against who ended well and who rolled back (rules 3, 4 and 8).
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.journal import RESERVED
from linker.platforms.base import Platform
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Execution, Explored, Interleaver
from tests.linker import trees
from tests.linker.seams import REFLINKING, Fault, MachinePlatform, Tap
from tests.linker.trees import Directory, Entry, File, Symlink, Tree

if sys.platform != "win32":
    from pytest_linkmode.models.clonefile import Model, Quirk

Making = Callable[[Interleaver, Fault | None, str], tuple[Platform, Tap | None]]
"""Makes the platform of one linker, whose calls are turns, and which meets a fault or none; with
what counts its calls. The last argument is a directory where its targets will lie."""


def machine(
    interleaver: Interleaver, fault: Fault | None, _ground: str
) -> tuple[Platform, Tap | None]:
    """The platform of this system on a filesystem with reflinks, wherever the test runs."""
    tap = None if fault is None else Tap(fault, REFLINKING)
    platform = MachinePlatform(REFLINKING, proof="injected") if tap is None else tap.platform
    return interleaver.platform(platform), tap


def mac(*quirks: Quirk, atomic: bool) -> Making:
    """macOS over the model of clonefile(2)."""

    def make(
        interleaver: Interleaver, fault: Fault | None, ground: str
    ) -> tuple[Platform, Tap | None]:
        tap = None if fault is None else Tap(fault, REFLINKING)
        host = REFLINKING if tap is None else tap.calls
        model = Model(atomic=atomic, quirks=set(quirks), host=host)
        with tempfile.TemporaryDirectory(dir=ground) as place:
            # It finds once what the volume can do: not in the first schedule only.
            directory = os.open(place, os.O_RDONLY)
            if tap is not None:
                tap.count = NEVER
            open(f"{place}/one", "wb").close()
            assert model.calls.clonefileat(directory, b"one", directory, b"two", 0) == 0
            os.close(directory)
        interleaver.platform(model, "steps")
        return interleaver.platform(model.platform), tap

    return make


def package(name: str, content: bytes, *, shared: bytes | None = None) -> Tree:
    """A package with a share in the namespace ``ns``."""
    return {
        "ns/__init__.py": File(content if shared is None else shared, mode=0o755),
        f"ns/{name}.py": File(content),
        f"ns/{name}/data": File(content * 3),
    }


@dataclass(frozen=True)
class Scenario:
    """What each linker brings, what is there before (None: no target), and who may be refused."""

    sources: tuple[Tree, ...]
    before: Tree | None = None
    conflict: bool = False
    one_source: bool = False


NEVER = 1 << 20
"""A number that no call of a linker has."""

NS: Tree = {"ns": Directory()}
A, B, C = package("a", b"aa"), package("b", b"b"), package("c", b"ccc")
SMALL_A: Tree = {"ns/__init__.py": File(b"aa"), "ns/a.py": File(b"aa")}
SMALL_B: Tree = {"ns/__init__.py": File(b"b"), "ns/b.py": File(b"b")}
SMALL_C: Tree = {"ns/__init__.py": File(b"ccc"), "ns/c.py": File(b"ccc")}
TINY: tuple[Tree, ...] = tuple(
    {f"ns/{name}.py": File(name.encode()), "ns/i": File(name.encode())} for name in "abc"
)

SCENARIOS: Mapping[str, Scenario] = {
    "both bring a new namespace": Scenario((A, B), {}),
    "both merge into a namespace": Scenario((SMALL_A, SMALL_B), NS),
    "both replace what is there": Scenario(
        (SMALL_A, SMALL_B),
        {"ns/__init__.py": File(b"old"), "ns/kept": File(b"kept"), "ns/b.py": File(b"older")},
    ),
    "the same content": Scenario((SMALL_A, SMALL_A), {}),
    "the same source": Scenario((SMALL_A, SMALL_A), NS, one_source=True),
    "into no target": Scenario((SMALL_A, SMALL_B), None),
    "a file against a directory": Scenario(
        ({"x": File(b"file"), "a": File(b"a")}, {"x/inside": File(b"in"), "b": File(b"b")}),
        {},
        conflict=True,
    ),
    "a directory against a file": Scenario(
        ({"ns/x/in": File(b"in"), "ns/a": File(b"a")}, {"ns/x": File(b"f"), "ns/b": File(b"b")}),
        NS,
        conflict=True,
    ),
    "symlinks and empty directories": Scenario(
        (
            {"ns/link": Symlink("one"), "ns/empty": Directory()},
            {"ns/link": Symlink("two"), "ns/empty": Directory(), "ns/more/x": File(b"x")},
        ),
        {},
    ),
}
THREE: Mapping[str, Scenario] = {
    "three bring a new namespace": Scenario(TINY, {}),
    "three merge into a namespace": Scenario(TINY, NS),
    "three of the same source": Scenario((SMALL_A,) * 3, {}, one_source=True),
}


class Race:
    """One scenario in one mode, on one platform; `faults` are met by the linkers that have one."""

    def __init__(
        self,
        ground: str,
        scenario: Scenario,
        mode: LinkMode,
        making: Making = machine,
        faults: Mapping[int, Fault] | None = None,
    ) -> None:
        self._scenario = scenario
        self._mode = mode
        self._faults = dict(faults or {})
        self._making = making
        self._ground, self._place = ground, f"{ground}/place"
        self.target = f"{self._place}/target"
        self._sources = []
        for number, tree in enumerate(scenario.sources):
            source = f"{ground}/source-{0 if scenario.one_source else number}"
            if not os.path.lexists(source):
                trees.build(source, tree)
            self._sources.append(source)
        self._before = f"{ground}/before"
        if not os.path.lexists(self._place):
            os.mkdir(self._place)
        self.calls = [0] * len(self._sources)

    def explore(self, interleaver: Interleaver, budget: int | None, name: str = "") -> Explored:
        """Explore the race."""
        numbers = range(len(self._sources))
        made = [
            self._making(interleaver, self._faults.get(number), self._ground) for number in numbers
        ]

        def prepare() -> None:
            empty(self._place)
            if self._scenario.before is not None:
                _build(self.target, self._scenario.before)
            for _, tap in made:
                if tap is not None:
                    tap.count = 0
                    tap.names.clear()

        def actor(number: int) -> Callable[[], LinkReport]:
            source, platform = self._sources[number], made[number][0]
            return lambda: link_tree(source, self.target, mode=self._mode, platform=platform)

        return interleaver.explore(
            [actor(number) for number in numbers],
            below=[self.target if self._scenario.before is not None else self._place],
            prepare=prepare,
            check=self.check,
            ends=(LinkError,),
            budget=budget,
            name=name,
            # Only above a target that is not there does the linker act by itself.
            python=self._scenario.before is None,
        )

    def check(self, execution: Execution) -> None:
        """Hold what is there against the promises."""
        wrong = list(self.wrong(execution))
        assert not wrong, "; ".join(wrong)

    def wrong(self, execution: Execution) -> Iterator[str]:
        """Yield in words what is not as it must be."""
        won, left = [], set[str]()
        for number, outcome in enumerate(execution.outcomes):
            name = execution.actors[number]
            error = outcome.error
            if error is None:
                won.append(number)
                report: LinkReport = outcome.result()
                if number in self._faults:  # it met a refusal while it tidied up, and says so
                    left.update(report.leftovers)
                elif report.leftovers:
                    yield f"{name} leaves {report.leftovers}"
                if set(report.counts) - {self._mode}:
                    yield f"{name} linked in other modes: {report.counts}"
            elif isinstance(error, LinkError):
                left.update(error.left)
                if number not in self._faults and not self._scenario.conflict:
                    yield f"{name} failed: {error}"
        if self._scenario.conflict and len(won) == 0:
            yield "neither has won"
        yield from self._compared(won, left)

    def _compared(self, won: list[int], left: set[str]) -> Iterator[str]:
        found = dict(_seen(self.target, "")) if os.path.lexists(self.target) else {}
        before = self._scenario.before or {}
        wanted: dict[str, list[tuple[int | None, Entry]]] = {}
        for number in won:
            for path, entry in _whole(self._scenario.sources[number]).items():
                wanted.setdefault(path, []).append((number, entry))
        for path, entry in _whole(before).items():
            wanted.setdefault(path, [(None, entry)])
        for path, entries in wanted.items():
            seen = found.pop(path, None)
            if seen is None:
                yield f"{path} is lost"
            elif path not in left and not any(self._shows(path, seen, *each) for each in entries):
                yield f"{path} shows {seen}"
        for path in found:
            name = path.partition("/")[0]
            if name in left or any(f"{each}/".startswith(f"{path}/") for each in left):
                continue
            what = "is left" if name.startswith(RESERVED) else "is nobody's"
            yield f"{path} {what}"
        beside = [name for name in os.listdir(self._place) if name != "target"]
        if beside:
            yield f"beside the target: {beside}"

    def _shows(self, path: str, seen: tuple[str, int, bytes], who: int | None, it: Entry) -> bool:
        kind, mode, content = seen
        if isinstance(it, Directory):
            return kind == "directory"
        if isinstance(it, Symlink):
            return kind == "symlink" and content == it.text.encode()
        if self._mode is LinkMode.SYMLINK and who is not None:
            return kind == "symlink" and content == f"{self._sources[who]}/{path}".encode()
        return (kind, mode, content) == ("file", it.mode, it.content)


def _whole(tree: Tree) -> dict[str, Entry]:
    """Return a tree with the directories that it implies."""
    whole: dict[str, Entry] = {}
    for path, entry in tree.items():
        for above in trees.parents(path):
            if above:
                whole.setdefault(above, Directory())
        whole[path] = entry
    return whole


def _build(root: str, tree: Tree) -> None:
    """Build a small tree quickly: the times do not matter here."""
    os.mkdir(root)
    for path, entry in _whole(tree).items():
        if isinstance(entry, Directory):
            os.mkdir(f"{root}/{path}")
            continue
        assert isinstance(entry, File)
        writing = os.open(f"{root}/{path}", os.O_WRONLY | os.O_CREAT, entry.mode)
        os.write(writing, entry.content)
        os.close(writing)


def _seen(place: str, prefix: str) -> Iterator[tuple[str, tuple[str, int, bytes]]]:
    """Yield every path with what is there."""
    with os.scandir(place) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.is_symlink():
                yield path, ("symlink", 0, os.readlink(entry.path).encode())
            elif entry.is_dir():
                yield path, ("directory", 0, b"")
                yield from _seen(entry.path, f"{path}/")
            else:
                reading = os.open(entry.path, os.O_RDONLY)
                mode = os.fstat(reading).st_mode & 0o7777
                yield path, ("file", mode, os.read(reading, 1000))
                os.close(reading)


def fault_at(number: int) -> Fault:
    """The call of that number fails."""
    return Fault(number, errno.EIO)
