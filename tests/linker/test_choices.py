"""Rule 2: how far an error reaches, and how much evidence it takes to give a mode up.

Errors are injected by file and attempt, and counted: what is tried again, and what is not, is the
behaviour under test. Everything is tried in a new directory and in one that exists, which are
two ways through the linker.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from linker import LinkError, LinkMode, LinkReport, Transition, link_tree
from linker.conditions import Condition, Primitive, Scope
from linker.platforms.base import Failed
from linker.platforms.linux import RENAME_EXCHANGE, LinuxPlatform
from linker.policies import REFERENCE, UV
from linker.policy import Memory, Policy, Step
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees
from tests.linker.seams import REFLINKING, WITHOUT_FLAGS_AND_LINKS
from tests.linker.trees import Directory, File, Tree

FILES = [f"f{number}" for number in range(6)]
TREE: Tree = {name: File(name.encode() * 100) for name in FILES}

Refuse = Callable[[str, int], int]
"""Asked with a file's name and how often it was tried before; returns an errno, 0 for none."""


class Trial:
    """A source, a target, and a filesystem that refuses what it is told to."""

    def __init__(self, root: str, kind: str, tree: Tree = TREE) -> None:
        self.source, self.target = f"{root}/source", f"{root}/target"
        trees.build(self.source, tree)
        if kind == "existing":
            existing = {path: entry for path, entry in tree.items() if isinstance(entry, Directory)}
            existing.update({above: Directory() for path in tree for above in trees.parents(path)})
            trees.build(self.target, existing)
        self.tried: Counter[str] = Counter()
        self.order: list[str] = []
        self.seen: list[Transition] = []
        self.slept: list[float] = []

    def transition(self, transition: Transition) -> None:
        self.seen.append(transition)

    def linked(self, report: LinkReport) -> None:
        self.report = report

    def link(self, refuse: Refuse, mode: LinkMode = LinkMode.CLONE, **options: Any) -> LinkReport:
        def count(name: str) -> None:
            attempt = self.tried[name]
            self.tried[name] += 1
            self.order.append(name)
            number = refuse(name, attempt)
            if number:
                raise injected(number)

        def ficlone(writing: int, reading: int) -> None:
            count(os.path.basename(os.readlink(f"/proc/self/fd/{reading}")))
            REFLINKING.ficlone(writing, reading)

        def link(name: str, new: str, **where: Any) -> None:
            if name in FILES:
                count(name)
            os.link(name, new, **where)

        def symlink(text: str, new: str, **where: Any) -> None:
            count(os.path.basename(text))
            os.symlink(text, new, **where)

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        calls = dataclasses.replace(
            REFLINKING, ficlone=ficlone, link=link, symlink=symlink, sleep=sleep
        )
        platform = options.pop("platform", LinuxPlatform)(calls)
        return link_tree(
            self.source, self.target, mode=mode, platform=platform, observer=self, **options
        )

    def modes(self) -> dict[str, str]:
        """Return how each file looks to have been made, by what is on disk."""
        found = {}
        for name in os.listdir(self.target):
            place = f"{self.target}/{name}"
            if os.path.islink(place):
                found[name] = "symlink"
            elif os.path.samefile(place, f"{self.source}/{name}"):
                found[name] = "hardlink"
            else:
                found[name] = "new"
        return found


@pytest.fixture(params=["fresh", "existing"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trial(ground: str, kind: str) -> Trial:
    return Trial(ground, kind)


def always(number: int) -> Refuse:
    return lambda name, attempt: number


def only(names: str, number: int) -> Refuse:
    return lambda name, attempt: number if name in names.split() else 0


NEEDED = (LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK)
PAIR_ERRORS = [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY]
FILE_ERRORS = {
    LinkMode.CLONE: [errno.EINVAL, errno.ETXTBSY, errno.EPERM, errno.EACCES, errno.EBADF],
    LinkMode.HARDLINK: [errno.EMLINK, errno.EPERM, errno.EACCES, errno.EINVAL],
    LinkMode.SYMLINK: [errno.ENAMETOOLONG, errno.EPERM, errno.EINVAL],
}
ABORTING = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE]


@pytest.mark.parametrize("number", PAIR_ERRORS)
@pytest.mark.parametrize("mode", NEEDED)
def test_a_pair_is_given_up_after_two_files_that_failed_alike(
    trial: Trial, mode: LinkMode, number: int
) -> None:
    report = trial.link(always(number), mode)
    assert trial.order == ["f0", "f1"]
    assert report.counts == {LinkMode.COPY: len(FILES)}
    (told,) = report.transitions
    assert (told.scope, told.path, told.edge.then) == (Scope.PAIR, "f0", LinkMode.COPY)
    assert told.error is not None
    assert told.error.errno == number
    assert set(trial.modes().values()) == {"new"}


def test_two_different_errors_are_no_evidence_together(trial: Trial) -> None:
    errors = {"f0": errno.EXDEV, "f1": errno.EOPNOTSUPP, "f2": errno.EXDEV}
    report = trial.link(lambda name, attempt: errors.get(name, errno.EXDEV))
    assert trial.order == ["f0", "f1", "f2"]
    assert [(told.scope, told.path) for told in report.transitions] == [
        (Scope.PAIR, "f0"),
        (Scope.FILE, "f1"),
    ]


def test_one_refusal_is_that_files_own(trial: Trial) -> None:
    report = trial.link(only("f0", errno.EXDEV))
    assert trial.order == FILES
    assert report.counts == {LinkMode.CLONE: 5, LinkMode.COPY: 1}
    (told,) = report.transitions
    assert (told.scope, told.path) == (Scope.FILE, "f0")
    assert told.error is not None
    assert told.error.errno == errno.EXDEV


def test_empty_files_are_no_evidence(ground: str, kind: str) -> None:
    tree: Tree = {**{name: File() for name in FILES[:4]}, "f4": File(b"4"), "f5": File(b"5")}
    trial = Trial(ground, kind, {**tree, "f6": File(b"6")})
    trial.link(always(errno.EXDEV))
    assert trial.order == FILES  # all of them, and not f6


def test_two_names_of_one_file_are_one_witness(ground: str, kind: str) -> None:
    trial = Trial(ground, kind, {"f0": File(b"0"), "f3": File(b"3"), "f4": File(b"4")})
    for name in ("f1", "f2"):
        os.link(f"{trial.source}/f0", f"{trial.source}/{name}")
    trial.link(always(errno.EOPNOTSUPP))
    assert trial.order == ["f0", "f1", "f2", "f3"]


@pytest.mark.parametrize("number", PAIR_ERRORS)
@pytest.mark.parametrize("mode", NEEDED)
def test_after_one_success_the_same_error_is_a_files_own(
    trial: Trial, mode: LinkMode, number: int
) -> None:
    report = trial.link(lambda name, attempt: 0 if name == "f1" else number, mode)
    assert trial.order == FILES
    assert report.counts == {mode: 1, LinkMode.COPY: 5}
    assert {told.scope for told in report.transitions} == {Scope.FILE}
    assert [told.path for told in report.transitions if told.path != "f0"] == FILES[2:]


@pytest.mark.parametrize(
    ("mode", "number"), [(mode, number) for mode in NEEDED for number in FILE_ERRORS[mode]]
)
def test_odd_files_never_downgrade_a_tree(trial: Trial, mode: LinkMode, number: int) -> None:
    report = trial.link(only("f0 f1 f2 f4", number), mode)
    assert trial.order == FILES
    assert report.counts == {mode: 2, LinkMode.COPY: 4}
    assert [(told.scope, told.path) for told in report.transitions] == [
        (Scope.FILE, name) for name in ("f0", "f1", "f2", "f4")
    ]
    looks = {LinkMode.CLONE: "new", LinkMode.HARDLINK: "hardlink", LinkMode.SYMLINK: "symlink"}
    assert trial.modes() == {name: looks[mode] if name in ("f3", "f5") else "new" for name in FILES}


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR])
@pytest.mark.parametrize("mode", NEEDED)
def test_a_passing_error_is_tried_again(trial: Trial, mode: LinkMode, number: int) -> None:
    report = trial.link(lambda name, attempt: number if attempt < REFERENCE.retries else 0, mode)
    assert report.counts == {mode: len(FILES)}
    assert not report.transitions, "nothing fell back"
    assert set(trial.tried.values()) == {REFERENCE.retries + 1}
    assert len(trial.slept) == REFERENCE.retries * len(FILES)
    assert {told.scope for told in trial.seen if told.edge.mode} == {Scope.RETRY}


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR])
@pytest.mark.parametrize("mode", NEEDED)
def test_retries_are_bounded_and_say_nothing_of_other_files(
    trial: Trial, mode: LinkMode, number: int
) -> None:
    report = trial.link(only("f0 f1 f2", number), mode)
    assert report.counts == {mode: 3, LinkMode.COPY: 3}
    assert trial.tried == {
        name: 1 + (REFERENCE.retries if name in ("f0", "f1", "f2") else 0) for name in FILES
    }
    assert [(told.scope, told.path) for told in report.transitions] == [
        (Scope.FILE, name) for name in ("f0", "f1", "f2")
    ]


@pytest.mark.parametrize("number", ABORTING)
@pytest.mark.parametrize("mode", NEEDED)
def test_a_full_or_broken_disk_is_no_reason_to_try_something_else(
    trial: Trial, mode: LinkMode, number: int
) -> None:
    before = trees.snapshot(trial.target)
    with pytest.raises(LinkError) as caught:
        trial.link(only("f2", number), mode)
    assert trial.order == ["f0", "f1", "f2"]
    assert caught.value.path == "f2"
    assert caught.value.condition is not None
    assert caught.value.condition.scope is Scope.ABORT
    assert not caught.value.left
    assert trees.lasting(trees.snapshot(trial.target)) == trees.lasting(before)


@pytest.mark.parametrize("mode", NEEDED)
def test_strict_raises_instead_of_falling_back(trial: Trial, mode: LinkMode) -> None:
    before = trees.snapshot(trial.target)
    with pytest.raises(LinkError) as caught:
        trial.link(only("f3", errno.EXDEV), mode, strict=True)
    assert caught.value.condition is Condition.CROSS_DEVICE
    assert caught.value.edge is not None
    assert "copy" in caught.value.hint
    assert trees.lasting(trees.snapshot(trial.target)) == trees.lasting(before)


def test_strict_still_tries_again(trial: Trial) -> None:
    report = trial.link(lambda name, attempt: 0 if attempt else errno.EAGAIN, strict=True)
    assert report.counts == {LinkMode.CLONE: len(FILES)}


def test_mutable_files_are_copied_and_prove_nothing(trial: Trial) -> None:
    report = trial.link(always(errno.EXDEV), mutable=["f0", "f2"])
    assert trial.order == ["f1", "f3"]
    assert report.counts == {LinkMode.COPY: len(FILES)}
    assert [told.path for told in report.transitions] == ["f1"]


def test_copies_that_are_asked_for_try_nothing_else(trial: Trial) -> None:
    report = trial.link(always(errno.EXDEV), LinkMode.COPY)
    assert not trial.order
    assert report.counts == {LinkMode.COPY: len(FILES)}
    assert not report.transitions


class Mounted(LinuxPlatform):
    """Lets the directory `mnt` of the source look like a mount of another filesystem."""

    def facts(self, directory: int) -> Any:
        found = super().facts(directory)
        path = os.readlink(f"/proc/self/fd/{directory}")
        return found._replace(device=77) if "/source/mnt" in path else found


def test_a_mount_point_inside_the_tree_is_its_own_pair(ground: str, kind: str) -> None:
    tree: Tree = {
        **{f"a/{name}": File(name.encode()) for name in ("a0", "a1", "a2")},
        **{f"mnt/{name}": File(name.encode()) for name in ("m0", "m1", "m2", "m3")},
        **{f"z/{name}": File(name.encode()) for name in ("z0", "z1", "z2")},
    }
    trial = Trial(ground, kind, tree)
    report = trial.link(
        lambda name, attempt: errno.EXDEV if name.startswith("m") else 0, platform=Mounted
    )
    assert sorted(trial.order) == ["a0", "a1", "a2", "m0", "m1", "z0", "z1", "z2"]
    assert report.counts == {LinkMode.CLONE: 6, LinkMode.COPY: 4}
    assert [(told.scope, told.path) for told in report.transitions] == [(Scope.PAIR, "mnt/m0")]


def test_a_refusal_outside_does_not_reach_a_mount_point_inside(ground: str, kind: str) -> None:
    tree: Tree = {
        **{f"a/{name}": File(name.encode()) for name in ("a0", "a1", "a2")},
        **{f"mnt/{name}": File(name.encode()) for name in ("m0", "m1")},
    }
    trial = Trial(ground, kind, tree)
    report = trial.link(
        lambda name, attempt: 0 if name.startswith("m") else errno.EXDEV, platform=Mounted
    )
    assert report.counts == {LinkMode.CLONE: 2, LinkMode.COPY: 3}


def test_a_directory_that_inherits_something_else_is_its_own_pair(ground: str) -> None:
    tree: Tree = {
        **{f"a/f{number}": File(b"a") for number in range(3)},
        **{f"g/f{number}": File(b"g") for number in range(3)},
    }
    trial = Trial(ground, "existing", tree)
    os.chmod(f"{trial.target}/g", 0o2755)
    refused: list[str] = []

    def refuse(name: str, attempt: int) -> int:
        refused.append(name)
        return errno.EXDEV if len(refused) <= 2 else 0

    report = trial.link(refuse)
    assert report.counts == {LinkMode.COPY: 3, LinkMode.CLONE: 3}


def test_the_next_link_starts_with_the_mode_that_was_asked_for(ground: str, kind: str) -> None:
    trial = Trial(ground, kind)
    trial.link(always(errno.EXDEV))
    trial.order.clear()
    report = trial.link(lambda name, attempt: 0)
    assert report.counts == {LinkMode.CLONE: len(FILES)}


def test_what_is_told_to_observers_is_what_is_reported(trial: Trial) -> None:
    report = trial.link(only("f0 f1 f3", errno.EINVAL))
    assert trial.report == report
    assert len({(told.edge.id, told.path, told.scope) for told in trial.seen}) == len(trial.seen)
    assert [told for told in trial.seen if told.edge.fallback] == list(report.transitions)
    assert {told.proof for told in trial.seen if told.error is not None} == {"injected"}


def told(trial: Trial) -> list[tuple[Scope, str, int | None, LinkMode | Step]]:
    """Return what observers were told, without what was found to exist."""
    return [
        (seen.scope, seen.path, seen.error.errno if seen.error else None, seen.edge.then)
        for seen in trial.seen
        if seen.edge.condition is not Condition.EXISTS
    ]


def test_observers_are_told_of_every_try(trial: Trial) -> None:
    """Of each once: a policy's coverage counts edges, not attempts."""
    trial.link(lambda name, attempt: errno.EAGAIN if name == "f1" and attempt < 2 else 0)
    assert told(trial) == [(Scope.RETRY, "f1", errno.EAGAIN, Step.RETRY)]


def test_observers_are_told_of_an_empty_files_refusal(ground: str, kind: str) -> None:
    trial = Trial(ground, kind, {"f0": File(), "f1": File(b"1")})
    trial.link(only("f0", errno.EXDEV))
    assert told(trial) == [(Scope.FILE, "f0", errno.EXDEV, LinkMode.COPY)]


@pytest.mark.parametrize("strict", [False, True])
def test_observers_are_told_what_ended_a_link(trial: Trial, strict: bool) -> None:  # noqa: FBT001
    number = errno.EXDEV if strict else errno.ENOSPC
    with pytest.raises(LinkError) as caught:
        trial.link(only("f2", number), strict=strict)
    then = LinkMode.COPY if strict else Step.ABORT
    assert told(trial) == [(Scope.ABORT, "f2", number, then)]
    assert caught.value.edge is trial.seen[-1].edge
    assert caught.value.path == "f2"


@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.HARDLINK])
def test_observers_are_told_what_was_replaced(ground: str, mode: LinkMode) -> None:
    trial = Trial(ground, "existing", {"d/f0": File(b"0"), "d/f1": File(b"1")})
    with open(f"{trial.target}/d/f1", "wb") as old:
        old.write(b"old")
    trial.link(lambda name, attempt: 0, mode)
    replaced = {seen.path: seen for seen in trial.seen if seen.edge.then is Step.REPLACE}
    assert list(replaced) == ["d/f1"]
    assert replaced["d/f1"].scope is Scope.FILE


def test_what_no_fault_made_is_proven_by_the_platform(ground: str) -> None:
    trial = Trial(ground, "existing", {"f0": File(b"0")})
    with open(f"{trial.target}/f0", "wb") as old:
        old.write(b"old")
    trial.link(lambda name, attempt: 0, LinkMode.HARDLINK)
    assert trial.seen
    assert {told.proof for told in trial.seen} == {"real"}


def test_pauses_between_tries_grow(trial: Trial) -> None:
    trial.link(only("f0", errno.EAGAIN))
    assert len(trial.slept) == REFERENCE.retries
    assert trial.slept == sorted(set(trial.slept))


# How far a policy lets a refusal reach.


def remembering(memory: Memory, **values: Any) -> Policy:
    return dataclasses.replace(REFERENCE, name=f"remembers {memory}", memory=memory, **values)


def test_a_policy_that_remembers_files_gives_no_mode_up(trial: Trial) -> None:
    report = trial.link(always(errno.EXDEV), policy=remembering(Memory.FILE))
    assert trial.order == FILES
    assert {seen.scope for seen in report.transitions} == {Scope.FILE}


def test_what_failed_too_often_may_be_given_up_like_what_failed_once(trial: Trial) -> None:
    policy = remembering(Memory.TREE, retries=2)
    report = trial.link(always(errno.EAGAIN), policy=policy)
    assert trial.order == ["f0"] * 3 + ["f1"] * 3
    assert report.counts == {LinkMode.COPY: len(FILES)}


def test_one_witness_may_be_enough_even_where_it_cannot_be_looked_at(
    ground: str, kind: str
) -> None:
    trial = Trial(ground, kind)

    class Blind(LinuxPlatform):
        def look(self, directory: int, name: str) -> Any:
            if "/source" in os.readlink(f"/proc/self/fd/{directory}"):
                raise Failed(Primitive.OPEN, injected(errno.EIO))
            return super().look(directory, name)

    policy = remembering(Memory.PAIR, confirmations=1)
    report = trial.link(always(errno.EXDEV), platform=Blind, policy=policy)
    assert trial.order == ["f0"]
    assert report.counts == {LinkMode.COPY: len(FILES)}


def test_observers_are_told_why_a_file_was_made_in_the_stage(ground: str) -> None:
    trial = Trial(ground, "existing")
    nameless = dataclasses.replace(REFLINKING, open=WITHOUT_FLAGS_AND_LINKS.open)
    link_tree(
        trial.source,
        trial.target,
        mode=LinkMode.COPY,
        platform=LinuxPlatform(nameless),
        observer=trial,
    )
    assert (Scope.PAIR, "f0", errno.EOPNOTSUPP, Step.STAGE) in told(trial)


def test_a_policy_may_begin_the_whole_tree_again_in_the_next_mode(trial: Trial) -> None:
    policy = remembering(Memory.TREE, restarts=True)
    report = trial.link(lambda name, attempt: 0 if name == "f0" else errno.EXDEV, policy=policy)
    assert trial.order == ["f0", "f1", "f2"], "and nothing is tried a second time"
    assert report.counts == {LinkMode.COPY: len(FILES)}
    assert [told.scope for told in report.transitions] == [Scope.PAIR]
    assert set(trial.modes().values()) == {"new"}


def test_a_mode_that_is_given_up_late_keeps_what_it_had_made(trial: Trial) -> None:
    policy = remembering(Memory.TREE)
    report = trial.link(lambda name, attempt: 0 if name == "f0" else errno.EXDEV, policy=policy)
    assert trial.order == ["f0", "f1", "f2"]
    assert report.counts == {LinkMode.CLONE: 1, LinkMode.COPY: 5}


def test_a_success_in_one_directory_counts_in_the_next(ground: str, kind: str) -> None:
    tree: Tree = {
        f"{where}/{name}": File(name.encode()) for where, name in zip("abb", FILES, strict=False)
    }
    trial = Trial(ground, kind, tree)
    report = trial.link(lambda name, attempt: errno.EXDEV if name != "f0" else 0)
    assert [told.scope for told in report.transitions] == [Scope.FILE] * 2
    assert report.counts == {LinkMode.CLONE: 1, LinkMode.COPY: 2}


def test_a_mode_that_was_fallen_into_has_worked_as_well(trial: Trial) -> None:
    """The first clone is refused, its hard link works, the next hard link is refused."""
    policy = dataclasses.replace(UV, undo=True)
    refused = {("f0", 0), ("f1", 0)}
    with pytest.raises(LinkError) as caught:
        trial.link(
            lambda name, attempt: errno.EXDEV if (name, attempt) in refused else 0, policy=policy
        )
    assert caught.value.path == "f1"
    assert trial.order == ["f0", "f0", "f1"]


def test_every_mode_has_its_own_tries(trial: Trial) -> None:
    interrupted = [errno.EINTR] * REFERENCE.retries

    def write(handle: int, data: Any) -> int:
        if interrupted:
            raise injected(interrupted.pop())
        return os.write(handle, data)

    class Interrupted(LinuxPlatform):
        def __init__(self, calls: Any) -> None:
            super().__init__(dataclasses.replace(calls, write=write))

    report = trial.link(only("f0", errno.EAGAIN), platform=Interrupted)
    assert report.counts == {LinkMode.CLONE: 5, LinkMode.COPY: 1}
    assert not interrupted


def test_what_fails_in_a_mode_that_is_not_the_pairs_retires_no_mode(trial: Trial) -> None:
    policy = dataclasses.replace(UV, confirmations=2)
    errors = {"f0": errno.EXDEV, "f1": errno.EOPNOTSUPP}
    platform = type("NoLinks", (LinuxPlatform,), {"hardlink": _refused_link})
    report = trial.link(lambda name, attempt: errors.get(name, 0), policy=policy, platform=platform)
    assert trial.order == FILES
    assert report.counts == {LinkMode.CLONE: 4, LinkMode.COPY: 2}


def _refused_link(*_: object) -> int:
    raise Failed(Primitive.HARDLINK, injected(errno.EPERM))


def test_what_was_seen_to_be_there_is_replaced_without_trying(ground: str) -> None:
    trial = Trial(ground, "existing")
    for name in ("f1", "f3"):
        with open(f"{trial.target}/{name}", "wb") as old:
            old.write(b"old")
    flags: list[int] = []

    def renameat2(*arguments: Any) -> None:
        flags.append(arguments[-1])
        REFLINKING.renameat2(*arguments)

    platform = LinuxPlatform(dataclasses.replace(REFLINKING, renameat2=renameat2))
    link_tree(trial.source, trial.target, platform=platform)
    assert flags == [RENAME_EXCHANGE] * 2


@pytest.mark.parametrize("memory", [Memory.TREE, Memory.PROCESS])
def test_a_policy_that_remembers_more_than_pairs_takes_a_refusal_to_every_mount(
    ground: str, kind: str, memory: Memory
) -> None:
    tree: Tree = {
        **{f"a/{name}": File(name.encode()) for name in ("a0", "a1", "a2")},
        **{f"mnt/{name}": File(name.encode()) for name in ("m0", "m1")},
    }
    trial = Trial(ground, kind, tree)
    policy = dataclasses.replace(remembering(memory), name=f"{ground} {memory}")
    report = trial.link(always(errno.EINVAL), platform=Mounted, policy=policy)
    assert trial.order == ["a0", "a1"]
    assert report.counts == {LinkMode.COPY: 5}


def test_only_a_policy_that_remembers_for_the_process_starts_where_the_last_link_ended(
    ground: str, kind: str
) -> None:
    trial = Trial(ground, kind)
    policy = dataclasses.replace(remembering(Memory.PROCESS), name=ground)
    trial.link(always(errno.EXDEV), policy=policy)
    assert trial.order == ["f0", "f1"]
    trial.order.clear()
    assert trial.link(always(errno.EXDEV), policy=policy).counts == {LinkMode.COPY: len(FILES)}
    assert not trial.order
    trial.link(always(errno.EXDEV), LinkMode.HARDLINK, policy=policy)
    assert trial.order == ["f0", "f1"], "of hard links nothing is known"
    trial.order.clear()
    for memory in (Memory.PAIR, Memory.TREE):
        trial.link(lambda name, attempt: 0, policy=dataclasses.replace(policy, memory=memory))
        assert trial.order == FILES
        trial.order.clear()


@pytest.fixture
def copying(ground: str, kind: str) -> SimpleNamespace:
    """A trial in which reading and writing can be made to fail."""
    trial = Trial(ground, kind)
    state = SimpleNamespace(trial=trial, errors=[], writes=0)

    def write(handle: int, data: Any) -> int:
        state.writes += 1
        if state.errors:
            raise injected(state.errors.pop(0))
        return os.write(handle, data)

    def link() -> LinkReport:
        platform = LinuxPlatform(
            dataclasses.replace(REFLINKING, write=write, sleep=lambda seconds: None)
        )
        return link_tree(trial.source, trial.target, mode=LinkMode.COPY, platform=platform)

    state.link = link
    return state


def test_a_copy_that_is_interrupted_is_made_again(copying: SimpleNamespace) -> None:
    copying.errors += [errno.EINTR, errno.EAGAIN]
    report = copying.link()
    assert report.counts == {LinkMode.COPY: len(FILES)}
    assert copying.writes == len(FILES) + 2
    for name in FILES:
        with open(f"{copying.trial.target}/{name}", "rb") as reading:
            assert reading.read() == name.encode() * 100


def test_a_copy_that_goes_on_failing_is_an_error(copying: SimpleNamespace) -> None:
    before = trees.snapshot(copying.trial.target)
    copying.errors += [errno.EINTR] * 100
    with pytest.raises(LinkError) as caught:
        copying.link()
    assert copying.writes == REFERENCE.retries + 1
    assert caught.value.condition is Condition.INTERRUPTED
    assert trees.lasting(trees.snapshot(copying.trial.target)) == trees.lasting(before)


def test_from_copy_nothing_falls_anywhere(copying: SimpleNamespace) -> None:
    for number in (errno.EPERM, errno.EBUSY, errno.EOPNOTSUPP, errno.EXDEV):
        before = trees.snapshot(copying.trial.target)
        copying.errors[:] = [number]
        with pytest.raises(LinkError):
            copying.link()
        assert trees.lasting(trees.snapshot(copying.trial.target)) == trees.lasting(before)
