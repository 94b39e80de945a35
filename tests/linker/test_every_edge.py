"""Every edge of the reference policy, on every platform, leads where the graph says.

The engine is given a platform of that name of which one primitive fails with an error that means
the condition. So the graphs of platforms that are not here are walked by the same engine that walks
them there; what the calls of those platforms do is for their own tests.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import TABLES, Condition, Primitive, condition_of
from linker.platforms.base import Failed
from linker.platforms.linux import LinuxPlatform
from linker.policies import REFERENCE
from linker.policy import Edge, Step
from linker.report import LinkReport, Transition, observing
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees
from tests.linker.seams import REFLINKING

UNHEARD_OF = "EUNHEARDOF"
"""An error that no table has."""

METHODS: dict[Primitive, tuple[str, ...]] = {
    Primitive.CLONE_FILE: ("clone_file", "clone_directly"),
    Primitive.CLONE_DIRECTORY: ("clone_directory",),
    Primitive.HARDLINK: ("hardlink",),
    Primitive.SYMLINK: ("symlink",),
    Primitive.COPY: ("copy_file", "copy_directly"),
    Primitive.CREATE: ("copy_file", "copy_directly"),
    Primitive.RENAME: ("place",),
    Primitive.EXCHANGE: ("exchange",),
    Primitive.LOCK: ("lock",),
}
PLACING = ("copy_directly",)
"""Where a file without a name gets its name, by a hard link."""

ONCE = frozenset({Step.RESTAGE, Step.REPLACE, Step.STAGE})
"""Steps after which the same is done in another way: there it works."""

NAMING = frozenset({Primitive.RENAME, Primitive.EXCHANGE})
"""What undoing needs as well, and what is done instead: it fails no more often than it must."""


FILE = "beside"
"""A new file of the source, in a directory that is there already."""

AS_WINDOWS = {"EEXIST": "ERROR_ALREADY_EXISTS", "ENOENT": "ERROR_FILE_NOT_FOUND"}
"""What the calls below say where Windows would say something else."""


class Told(OSError):
    """An error that is known by its name alone."""

    injected = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Failing:
    """A platform of any name, of which some methods fail: always, or the first time."""

    def __init__(self, edge: Edge) -> None:
        self.name = edge.platform
        self.proof = "modelled"
        self.failures = 0
        self._inner = LinuxPlatform(REFLINKING)
        self._edge = edge
        self._most = how_often(edge)
        # A directory has no links that could be too many.
        links = edge.condition is Condition.TOO_MANY_LINKS
        self._of_files = links and edge.primitive is Primitive.RENAME
        self._methods = METHODS[edge.primitive]
        if (edge.primitive, edge.condition) == (Primitive.RENAME, Condition.EXISTS):
            self._methods = ()
        if edge.mode is None and edge.primitive is Primitive.HARDLINK:
            self._methods = PLACING

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return self._failing(method) if name in self._methods else method

    def _failing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **options: Any) -> Any:
            edge = self._edge
            if self.failures >= self._most or (self._of_files and FILE not in given):
                return method(*given, **options)
            self.failures += 1
            raise Failed(edge.primitive, Told(error_for(edge)))

        return called

    def error_name(self, error: OSError) -> str:
        if isinstance(error, Told):
            return error.name
        name = self._inner.error_name(error)
        return AS_WINDOWS.get(name, name) if self.name == "windows" else name

    @property
    def places_directly(self) -> bool:
        staged = self.name != "linux" or self._of_files
        return not staged and self._inner.places_directly

    def pause(self, attempt: int) -> None:
        """No test has the time."""


def how_often(edge: Edge) -> float:
    """Return how many calls must fail for the edge to be taken, and for what follows to work."""
    if edge.primitive in NAMING and edge.then is Step.RETRY:
        return 2
    if edge.primitive in NAMING and edge.then is not Step.EMULATE:
        return 1
    return 1 if edge.then in ONCE else math.inf


class FailingWithDirectories(Failing):
    """The same where one call may clone a directory."""

    def clone_directory(self, *given: Any) -> None:
        self._failing(lambda *_: None)(*given)

    def settle_clone(self, *given: Any) -> int:
        raise AssertionError("no directory was cloned")

    def strip_directory(self, *given: Any) -> None: ...


def error_for(edge: Edge) -> str:
    """Return the name of an error that means the condition of an edge where it begins."""
    common, special = TABLES[edge.platform]
    for name in (*special.get(edge.primitive, {}), *common, UNHEARD_OF):
        if condition_of(edge.platform, edge.primitive, name) is edge.condition:
            return name
    raise AssertionError(f"no error means {edge.condition} to {edge.primitive}")


class Taken:
    """The edges that were taken, with their proof."""

    def __init__(self) -> None:
        self.edges: dict[str, str] = {}

    def transition(self, transition: Transition) -> None:
        self.edges[transition.edge.id] = transition.proof

    def linked(self, report: LinkReport) -> None: ...


@pytest.mark.parametrize("edge", REFERENCE.edges, ids=lambda edge: edge.id)
@pytest.mark.linkmode(fs="tmpfs")
def test_an_edge_leads_where_the_graph_says(edge: Edge, linkmode_fs: TestFilesystem) -> None:
    source, target = linkmode_fs.path / "source", linkmode_fs.path / "target"
    for name in ("ns/old", f"ns/{FILE}", "ns/new/file"):
        written(source / name)
    if edge.primitive is not Primitive.CLONE_DIRECTORY:
        written(target / "ns" / "old", b"old")
        (target / "ns" / "more").mkdir()
    before = kept(target)
    clones = edge.primitive is Primitive.CLONE_DIRECTORY
    platform: Any = FailingWithDirectories(edge) if clones else Failing(edge)
    mode = edge.mode or LinkMode.COPY
    taken, report, failed = Taken(), None, None
    with observing(taken):
        try:
            report = link_tree(source, target, mode=mode, platform=platform)
        except LinkError as error:
            failed = error
    if (edge.primitive, edge.condition) == (Primitive.RENAME, Condition.EXISTS):
        # A file that is there is met by looking: it is, and is replaced without a try.
        assert edge.id in taken.edges
    else:
        assert platform.failures > 0
        assert taken.edges[edge.id] == "injected"
    retried = edge.then is Step.RETRY and edge.primitive not in NAMING
    end = edge.otherwise if retried else edge.then
    if end is Step.ABORT:
        assert failed is not None
        assert failed.left == ()
        assert kept(target) == before
        return
    assert report is not None, failed
    if isinstance(end, LinkMode):
        assert report.counts[end] > 0
    for path in source.rglob("*"):
        if path.is_file():
            assert (target / path.relative_to(source)).read_bytes() == path.read_bytes()


def written(path: pathlib.Path, content: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(10_000) if content is None else content)


def kept(target: pathlib.Path) -> object:
    """What a failed link must leave as it was."""
    return trees.lasting(trees.snapshot(str(target))) if target.exists() else None
