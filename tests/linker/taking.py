"""Which edges of the policy a link takes, by what proof; and a world that changes meanwhile.

`Meanwhile` is told what the linker tells everybody (`observer=`, `progress=`) and then does what
others, or a disk, may do at any time. No call is held or answered by us: the errors that follow are
the kernel's own.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.report import LinkReport, Transition, observing
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, fuse, loop
from pytest_linkmode.filesystems.base import Kind
from pytest_linkmode.sessions import Session

CONTENT = os.urandom(70_000)

Change = Callable[[], None]


class Taken:
    """The edges of this system that were taken, with their proof."""

    def __init__(self) -> None:
        self.edges: dict[str, str] = {}
        self.error: LinkError | None = None
        self.report: LinkReport | None = None

    def transition(self, transition: Transition) -> None:
        self.edges[transition.edge.id.removeprefix("linux/")] = transition.proof

    def linked(self, report: LinkReport) -> None: ...


class Meanwhile(Taken):
    """The same; after a number of directories, or right after an edge, the world changes, once."""

    def __init__(self, after: Mapping[str | int, Change]) -> None:
        super().__init__()
        self._after = dict(after)
        self._directories = 0

    def transition(self, transition: Transition) -> None:
        super().transition(transition)
        self._change(transition.edge.id.removeprefix("linux/"))

    def progress(self, done: int, total: int) -> None:
        self._directories += 1
        self._change(self._directories)

    def _change(self, event: str | int) -> None:
        change = self._after.pop(event, None)
        if change is not None:
            change()

    @property
    def all_happened(self) -> bool:
        return not self._after


def link(
    source: pathlib.Path,
    target: pathlib.Path,
    mode: LinkMode,
    *,
    after: Mapping[str | int, Change] | None = None,
    mutable: Sequence[str] = (),
) -> Taken:
    """Link, to the end or not, and return what was taken; everything of `after` has happened."""
    taken = Meanwhile(after or {})
    with observing(taken):
        try:
            taken.report = link_tree(
                source, target, mode=mode, mutable=mutable, progress=taken.progress
            )
        except LinkError as error:
            taken.error = error
    assert taken.all_happened
    return taken


def need_loop(name: str, settings: Settings) -> Kind:
    """Return what is made in an image, whatever other ways there are; skip where it cannot be."""
    missing = loop.Loop().missing(FILESYSTEMS[name], settings)
    if missing is not None:
        pytest.skip(str(missing))
    return FILESYSTEMS[name]


@contextmanager
def served(name: str, session: Session) -> Iterator[pathlib.Path]:
    """Give a filesystem of the test's own that a daemon serves; skip where it cannot be had."""
    with ExitStack() as stack:
        kind = FILESYSTEMS[name]
        try:
            made = stack.enter_context(fuse.Fuse().open(kind, session.place, session.settings))
        except Unavailable as missing:
            pytest.skip(str(missing))
        yield pathlib.Path(made.path)


def written(path: pathlib.Path, content: bytes = CONTENT) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def assert_whole(source: pathlib.Path, target: pathlib.Path) -> None:
    """Assert that every file of the source is in the target, whole."""
    for above, _, names in os.walk(source):
        for name in names:
            path = pathlib.Path(above, name)
            assert (target / path.relative_to(source)).read_bytes() == path.read_bytes()
