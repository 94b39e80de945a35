"""The algorithms that failed in the field are caught, each with the schedule that shows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from linker.modes import LinkMode
from pytest_linkmode import assert_linked
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Execution, Explored, Interleaver, ScheduleFailed
from pytest_linkmode.layouts import Layout
from tests.linker import trees
from tests.linker.trees import File, Tree
from tests.pytest_linkmode.interleave import historical
from tests.pytest_linkmode.interleave.historical import Cloning, Linker, Modelled

DIFFERENT: tuple[Tree, Tree] = (
    {"ns/__init__.py": File(b"one"), "ns/one.py": File(b"1")},
    {"ns/__init__.py": File(b"two!"), "ns/two.py": File(b"2")},
)
SAME: tuple[Tree, Tree] = (DIFFERENT[0], DIFFERENT[0])


class Race:
    """Two linkers of one kind, their sources and what they share."""

    def __init__(
        self,
        meeting: str,
        sources: tuple[Tree, Tree],
        *,
        atomic: bool,
        kind: type[Cloning] = Cloning,
    ) -> None:
        self.target, self._hidden = f"{meeting}/target", f"{meeting}/hidden"
        self.sources = [f"{meeting}/{name}" for name in ("source-a", "source-b")]
        for place, tree in zip(self.sources, sources, strict=True):
            trees.build(place, tree)
        os.mkdir(self.target)
        os.mkdir(self._hidden)
        self._trees = sources
        self.cloning = kind(self._hidden, atomic=atomic)

    def run(
        self,
        make: Callable[[], Linker],
        check: Callable[[Execution], None] | None = None,
        *,
        before: tuple[str, ...] = (),
        replay: str | None = None,
    ) -> Explored:
        kind: list[Linker] = []

        def prepare() -> None:
            empty(self.target)
            empty(self._hidden)
            for name in before:
                os.mkdir(f"{self.target}/{name}")
            kind[:] = [make()]

        def actor(source: str) -> Callable[[], object]:
            return lambda: kind[0](self.cloning, source, self.target)

        interleaver = Interleaver(replay=replay)
        self.cloning.meet(interleaver)
        return interleaver.explore(
            [actor(source) for source in self.sources],
            check=check or self.nothing_is_lost,
            below=[self.target],
            prepare=prepare,
        )

    def nothing_is_lost(self, execution: Execution) -> None:
        """Every file of both is there, whole, and nothing else."""
        found = {
            path: seen.content
            for path, seen in trees.snapshot(self.target).items()
            if seen.kind == "file"
        }
        wanted: dict[str, set[bytes]] = {}
        for tree in self._trees:
            for path, entry in tree.items():
                assert isinstance(entry, File)
                wanted.setdefault(path, set()).add(entry.content)
        assert found.keys() == wanted.keys(), sorted(found)
        for path, content in found.items():
            assert content in wanted[path], path

    @staticmethod
    def whoever_is_done_has_everything(execution: Execution) -> None:
        for outcome in execution.outcomes:
            assert not outcome.result(), f"said that it was done without {outcome.result()}"

    @staticmethod
    def one_odd_file_downgrades_no_other(execution: Execution) -> None:
        modes = [outcome.result() for outcome in execution.outcomes]
        copied = [path for each in modes for path, mode in each.items() if mode == "copy"]
        assert len(copied) <= 1, f"copied: {copied}"


@dataclass(frozen=True)
class Case:
    """An algorithm, and where it is caught: what is said, and calls that the picture shows."""

    make: Callable[[], Linker]
    sources: tuple[Tree, Tree]
    said: str
    shown: tuple[str, ...]
    atomic: tuple[bool, ...] = (True, False)
    check: str = "nothing_is_lost"
    before: tuple[str, ...] = ()


CASES = {
    "delete then clone": Case(
        lambda: historical.delete_then_clone, DIFFERENT, "AssertionError", ("unlink ns/one.py",)
    ),
    "clone and ignore EEXIST": Case(
        lambda: historical.clone_and_ignore_what_exists,
        SAME,
        "said that it was done without",
        ("mkdir ns = EEXIST", "stat ns/one.py = ENOENT"),
        # Where a directory appears at once, what exists is complete, for the same package.
        atomic=(False,),
        check="whoever_is_done_has_everything",
    ),
    "clone and ignore EEXIST, of another package": Case(
        lambda: historical.clone_and_ignore_what_exists,
        DIFFERENT,
        "said that it was done without",
        ("ns = EEXIST",),
        check="whoever_is_done_has_everything",
    ),
    "clone, and descend without a temporary name": Case(
        lambda: historical.descend_without_a_temporary_name,
        DIFFERENT,
        "ended with File(Exists|NotFound)Error",
        ("create ns/__init__.py", "create ns/__init__.py = EEXIST"),
        before=("ns",),
    ),
    "clone, and descend into what is half made": Case(
        lambda: historical.descend_without_a_temporary_name,
        DIFFERENT,
        "ended with FileExistsError",
        ("mkdir ns = EEXIST", "create ns/__init__.py = EEXIST"),
        atomic=(False,),
    ),
    "remember one failure for the whole process": Case(
        historical.RemembersOneFailure,
        (
            {f"ns/{name}": File(b"x") for name in ("__init__.py", "a", "b")},
            {f"ns/{name}": File(b"y") for name in ("__init__.py", "c")},
        ),
        "copied:",
        ("create ns/__init__.py",),
        atomic=(True,),
        check="one_odd_file_downgrades_no_other",
    ),
}


@pytest.mark.parametrize("kind", [Cloning, Modelled], ids=["made of calls", "clonefile model"])
@pytest.mark.parametrize(
    ("name", "clones"),
    [
        (name, "at once" if atomic else "item by item")
        for name, case in CASES.items()
        for atomic in case.atomic
    ],
)
def test_a_historical_algorithm_is_caught(
    meeting: str, name: str, clones: str, kind: type[Cloning]
) -> None:
    case = CASES[name]
    race = Race(meeting, case.sources, atomic=clones == "at once", kind=kind)
    check = getattr(race, case.check)
    with pytest.raises(ScheduleFailed, match=case.said) as caught:
        race.run(case.make, check, before=case.before)
    said = str(caught.value)
    for call in case.shown:
        shown = call.replace("mkdir ns", "clonefileat ns") if kind is Modelled else call
        assert shown in said, said
    with pytest.raises(ScheduleFailed) as again:
        race.run(case.make, check, before=case.before, replay=caught.value.line)
    assert again.value.execution.plan == caught.value.execution.plan


def test_an_algorithm_that_is_right_in_a_case_is_not_accused(meeting: str) -> None:
    race = Race(meeting, SAME, atomic=True)
    explored = race.run(
        lambda: historical.clone_and_ignore_what_exists, race.whoever_is_done_has_everything
    )
    assert explored.complete
    assert explored.counts.ran > 1


def test_ficlone_on_directories_is_caught_by_a_layout(
    linkmode_layout_factory: Callable[[str], Layout],
) -> None:
    """As in uv before its change 7620: on Linux the clone of a directory always fails, so that all
    is copied, and nobody notices (this project's first reason).
    """
    layout = linkmode_layout_factory("btrfs")
    source, target = str(layout.source), str(layout.target)
    for name in ("__init__.py", "module.py"):
        trees.build(f"{source}/{name}.d", {name: File(trees.noise(100_000))})
    refused = historical.ficlone_directories(source, target)
    assert refused  # every one
    assert trees.content(trees.snapshot(source)).keys() == trees.snapshot(target).keys()
    with pytest.raises(AssertionError, match="copy"):
        assert_linked(source, target, LinkMode.CLONE)
