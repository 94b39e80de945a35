"""What each system that we model does where a call fails, held against its documents.

Every row is a sentence about one system: asked for a mode, with these errors, so many files end so.
The reference linker follows the system's policy on a filesystem with reflinks, the errors are those
of its own calls, and what is counted lies on disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from linker import LinkError, LinkMode, LinkReport, link_file, link_tree, policies
from linker.choices import forget_process
from linker.conditions import Condition
from linker.platforms.linux import LinuxPlatform
from linker.policies.coreutils import of_version
from linker.policies.rows import EVERYWHERE
from linker.policy import PRIMITIVES, Memory, Policy, Promise, Step
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import faulty
from pytest_linkmode.faults.spec import parse_all
from tests.linker import trees
from tests.linker.seams import REFLINKING
from tests.linker.trees import File, Tree

CLONE, HARDLINK, SYMLINK, COPY = LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK, LinkMode.COPY
MODELLED = [name for name in policies.ALL if name != "reference"]

PACKAGE: Tree = {f"pkg/{name}.js": File(name.encode()) for name in "abcdef"}
FILES = len(PACKAGE)


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    forget_process()
    yield
    forget_process()


@dataclass
class Store:
    """A package in a store, and projects beside it."""

    root: str

    def install(
        self, policy: Policy, mode: LinkMode, *faults: str, into: str = "one"
    ) -> LinkReport:
        injection = Injection(parse_all(faults), standing_in=False)
        with injection, faulty(injection, LinuxPlatform(REFLINKING)) as platform:
            return link_tree(
                f"{self.root}/store", f"{self.root}/{into}", policy=policy, mode=mode,
                platform=platform,
            )  # fmt: skip

        raise AssertionError("killed, though no fault does that")

    def installed(self, into: str = "one") -> int:
        found = sum(len(files) for _, _, files in os.walk(f"{self.root}/{into}"))
        assert not [name for name in os.listdir(self.root) if name.startswith(".linkmode")]
        return found


@pytest.fixture
def store(ground: str) -> Store:
    trees.build(f"{ground}/store", PACKAGE)
    return Store(ground)


ALL_OF: dict[str, dict[LinkMode, int]] = {
    mode.value: {mode: FILES} for mode in (CLONE, HARDLINK, SYMLINK, COPY)
}
ALONE = {HARDLINK: FILES - 1, COPY: 1}
ONE_COPY = {CLONE: FILES - 1, COPY: 1}

ENDS: tuple[tuple[str, LinkMode, tuple[str, ...], dict[LinkMode, int]], ...] = (
    # pnpm 11: the first package decides, whole
    ("pnpm-11", CLONE, ("clone:EOPNOTSUPP",), ALL_OF["hardlink"]),
    ("pnpm-11", CLONE, ("clone:EIO:nth=4",), ALL_OF["clone"]),
    ("pnpm-11", CLONE, ("clone:EIO",), ALL_OF["hardlink"]),
    ("pnpm-11", CLONE, ("clone:EXDEV", "hardlink:EXDEV"), ALL_OF["copy"]),
    ("pnpm-11", CLONE, ("clone:EXDEV", "hardlink:EXDEV:nth=3"), ALL_OF["copy"]),
    ("pnpm-11", CLONE, ("clone:EXDEV", "hardlink:EMLINK:nth=3"), ALONE),
    ("pnpm-11", CLONE, ("clone:EXDEV", "hardlink:EPERM"), ALL_OF["copy"]),
    ("pnpm-11-hardlink", HARDLINK, ("hardlink:EXDEV",), ALL_OF["copy"]),
    ("pnpm-11-hardlink", HARDLINK, ("hardlink:EIO:nth=2",), ALONE),
    ("pnpm-11-clone", CLONE, ("clone:EOPNOTSUPP:nth=2",), ONE_COPY),
    ("pnpm-11-clone-or-copy", CLONE, ("clone:EXDEV",), ALL_OF["copy"]),
    ("pnpm-11-clone-or-copy", CLONE, ("clone:EIO:nth=3",), ALL_OF["clone"]),
    ("pnpm-12-clone-or-copy", CLONE, ("clone:EIO:nth=3",), {CLONE: 2, COPY: FILES - 2}),
    ("pnpm-11", CLONE, ("clone:EAGAIN:nth=4",), ALL_OF["clone"]),
    ("pnpm-11-clone", CLONE, ("clone:EAGAIN:nth=4",), ALL_OF["clone"]),
    ("pnpm-11-clone", CLONE, ("clone:ENOSYS:nth=4",), ALL_OF["clone"]),
    ("pnpm-11-clone", CLONE, ("clone:EISDIR:nth=4",), ALL_OF["clone"]),
    ("pnpm-11-hardlink", HARDLINK, ("hardlink:EAGAIN:nth=2",), ALL_OF["hardlink"]),
    ("pnpm-11-hardlink", HARDLINK, ("hardlink:EAGAIN",), ALL_OF["copy"]),
    ("pnpm-11", COPY, ("copy:ENOSPC:nth=3",), ALL_OF["copy"]),
    ("uv", HARDLINK, ("hardlink:EMLINK:nth=4",), ALL_OF["hardlink"]),
    ("uv", HARDLINK, ("hardlink:ENOENT:nth=1",), ALL_OF["copy"]),
    # pnpm 12: file by file, one state for the process
    ("pnpm-12", HARDLINK, ("hardlink:EXDEV",), ALL_OF["clone"]),
    ("pnpm-12", HARDLINK, ("hardlink:EXDEV", "clone:EXDEV"), ALL_OF["copy"]),
    ("pnpm-12", HARDLINK, ("hardlink:EPERM:nth=3",), {HARDLINK: 2, CLONE: FILES - 2}),
    ("pnpm-12", HARDLINK, ("hardlink:EMLINK:nth=3",), ALONE),
    ("pnpm-12", CLONE, ("clone:EAGAIN:nth=3",), {CLONE: 2, COPY: FILES - 2}),
    ("pnpm-12-hardlink", HARDLINK, ("hardlink:EXDEV:nth=3",), ALONE),
    ("pnpm-12-hardlink", HARDLINK, ("hardlink:EMLINK:nth=3",), ALONE),
    # bun: cross-device copies the package from its first file, and all others
    ("bun", HARDLINK, ("hardlink:EXDEV:nth=3",), ALL_OF["copy"]),
    ("bun", HARDLINK, ("hardlink:EXDEV",), ALL_OF["copy"]),
    ("bun", HARDLINK, ("hardlink:EACCES:nth=2",), ALL_OF["copy"]),
    # orogene: a trial, then each file for itself
    ("orogene", CLONE, ("clone:EXDEV",), ALL_OF["hardlink"]),
    ("orogene", CLONE, ("clone:EXDEV", "hardlink:EIO:nth=3"), ALL_OF["hardlink"]),
    ("orogene", CLONE, ("clone:EXDEV", "hardlink:EXDEV"), ALL_OF["copy"]),
    ("orogene", HARDLINK, ("hardlink:EXDEV",), ALL_OF["copy"]),
    # the others
    ("reflink-copy", CLONE, ("clone:EAGAIN:nth=3",), ONE_COPY),
    ("reflink-copy", CLONE, ("clone:EIO",), ALL_OF["copy"]),
    ("rattler", CLONE, ("clone:ENOSPC:nth=3",), {CLONE: FILES - 1, HARDLINK: 1}),
    ("rattler", CLONE, ("clone:EXDEV", "hardlink:EXDEV"), ALL_OF["copy"]),
    ("dvc", CLONE, ("clone:EAGAIN:nth=3",), {CLONE: 2, COPY: FILES - 2}),
    ("dvc", CLONE, ("clone:EPERM",), ALL_OF["copy"]),
    ("dvc", HARDLINK, ("hardlink:EXDEV",), ALL_OF["copy"]),
    ("yarn", CLONE, ("clone:EOPNOTSUPP",), ALL_OF["hardlink"]),
    ("yarn", CLONE, ("clone:ENOSYS",), ALL_OF["hardlink"]),
    ("yarn", HARDLINK, ("hardlink:EXDEV",), ALL_OF["copy"]),
    ("yarn", HARDLINK, ("hardlink:EMLINK:nth=3",), ALL_OF["hardlink"]),
    ("cpython", CLONE, ("clone:EXDEV",), ALL_OF["copy"]),
    ("cpython", CLONE, ("clone:EBADF:nth=2",), ONE_COPY),
    ("cpython", CLONE, ("clone:ETXTBSY:nth=2",), ONE_COPY),
    ("coreutils", CLONE, ("clone:EPERM:nth=2",), ONE_COPY),
    ("coreutils", CLONE, ("clone:EINVAL",), ALL_OF["copy"]),
    ("coreutils-9-2", CLONE, ("clone:EXDEV",), ALL_OF["copy"]),
    ("coreutils-9-2", CLONE, ("clone:ETXTBSY:nth=2",), ONE_COPY),
    ("coreutils-9-0", CLONE, ("clone:EIO:nth=2",), ONE_COPY),
    ("coreutils-8", CLONE, ("clone:ENOSPC",), ALL_OF["copy"]),
    ("pip", COPY, (), ALL_OF["copy"]),
    ("pdm", SYMLINK, (), ALL_OF["symlink"]),
    ("pdm", HARDLINK, ("hardlink:EPERM:nth=3",), ALL_OF["hardlink"]),
    ("pdm", COPY, ("copy:EIO:nth=3",), ALL_OF["copy"]),
    ("pdm", SYMLINK, ("symlink:EPERM:nth=1",), ALL_OF["symlink"]),
    ("cacache", COPY, (), ALL_OF["copy"]),
)


@pytest.mark.parametrize(
    ("name", "mode", "faults", "ends"),
    ENDS,
    ids=[f"{name}-{mode}-{'+'.join(faults) or 'nothing'}" for name, mode, faults, _ in ENDS],
)
def test_a_system_that_falls_back_ends_in_these_modes(
    store: Store, name: str, mode: LinkMode, faults: tuple[str, ...], ends: dict[LinkMode, int]
) -> None:
    report = store.install(policies.ALL[name], mode, *faults)
    assert report.counts == ends
    assert store.installed() == FILES
    assert bool(report.transitions) is (ends != ALL_OF[mode.value])


STOPS: tuple[tuple[str, LinkMode, str, int], ...] = (
    ("uv", CLONE, "clone:EAGAIN:nth=3", 2),
    ("uv", HARDLINK, "hardlink:EXDEV:nth=3", 2),
    ("uv", HARDLINK, "hardlink:ENOENT:nth=3", 2),
    ("pnpm-11-clone", CLONE, "clone:EIO", 0),
    ("pnpm-11-clone", CLONE, "clone:ENOTTY", 0),
    ("pnpm-11", COPY, "copy:EIO", 0),
    ("pnpm-12", HARDLINK, "hardlink:ENOENT:nth=3", 0),
    ("pnpm-12-hardlink", HARDLINK, "hardlink:EPERM", 0),
    ("pnpm-12-clone", CLONE, "clone:EXDEV", 0),
    ("bun", HARDLINK, "hardlink:EMLINK:nth=3", 0),
    ("bun", HARDLINK, "hardlink:EIO", 0),
    ("reflink-copy", CLONE, "clone:EPERM:nth=3", 2),
    ("reflink-copy", CLONE, "clone:EACCES:nth=3", 2),
    ("dvc", HARDLINK, "hardlink:EMLINK:nth=3", 2),
    ("dvc", HARDLINK, "hardlink:ENOENT:nth=3", 2),
    ("dvc", CLONE, "clone:EACCES:nth=3", 2),
    ("dvc", CLONE, "clone:EROFS:nth=3", 2),
    ("dvc", CLONE, "clone:EISDIR:nth=3", 2),
    ("pip", COPY, "copy:EIO:nth=3", 0),
    ("yarn", CLONE, "clone:EXDEV", 0),
    ("yarn", CLONE, "clone:EISDIR", 0),
    ("yarn", CLONE, "clone:ENOSYS:nth=3", 2),
    ("yarn", HARDLINK, "hardlink:EIO", 0),
    ("cpython", CLONE, "clone:ENOTTY", 0),
    ("cpython", CLONE, "clone:EINVAL:nth=3", 2),
    ("cpython", CLONE, "clone:EAGAIN:nth=3", 2),
    # cp goes on with the next file, and fails in the end
    ("coreutils", CLONE, "clone:ENOSPC:nth=3", FILES - 1),
    ("coreutils", CLONE, "clone:EIO", 0),
    ("coreutils", HARDLINK, "hardlink:EXDEV", 0),
    ("coreutils", HARDLINK, "hardlink:EMLINK:nth=1", FILES - 1),
    ("coreutils", HARDLINK, "hardlink:ENOENT:nth=1", FILES - 1),
    ("coreutils", SYMLINK, "symlink:EPERM:nth=2", FILES - 1),
    ("coreutils", COPY, "copy:EIO:nth=2", FILES - 1),
    ("coreutils-9-2", CLONE, "clone:EPERM:nth=2", FILES - 1),
    ("coreutils-9-2", CLONE, "clone:ENOTTY", 0),
    ("coreutils-9-2", CLONE, "clone:EISDIR", 0),
    ("coreutils-always", CLONE, "clone:EXDEV:nth=2", FILES - 1),
    ("dvc", COPY, "copy:ENOSPC:nth=3", 2),
    ("dvc", COPY, "copy:EIO:nth=3", 2),
    ("dvc", COPY, "copy:EDQUOT:nth=3", 2),
    # symlinks of one directory are made elsewhere, and placed together
    ("pdm", SYMLINK, "symlink:EPERM:nth=3", 0),
    ("pdm", HARDLINK, "hardlink:EXDEV", 0),
    ("pdm", COPY, "copy:EIO", 0),
    ("cacache", CLONE, "clone:EXDEV", 0),
)


@pytest.mark.parametrize(
    ("name", "mode", "fault", "left"), STOPS, ids=[f"{row[0]}-{row[2]}" for row in STOPS]
)
def test_a_system_that_stops_leaves_so_many_files(
    store: Store, name: str, mode: LinkMode, fault: str, left: int
) -> None:
    with pytest.raises(LinkError):
        store.install(policies.ALL[name], mode, fault)
    assert store.installed() == left


def test_the_first_error_is_told_of_those_for_which_files_are_left_out(store: Store) -> None:
    with pytest.raises(LinkError) as caught:
        store.install(policies.COREUTILS_ALWAYS, CLONE, "clone:EIO:nth=2", "clone:EXDEV:nth=4")
    assert caught.value.path == "pkg/b.js"
    assert caught.value.condition is Condition.IO
    assert store.installed() == FILES - 2


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("8.32", "coreutils-8"),
        ("9.0", "coreutils-9-0"),
        ("9.1", "coreutils-9-0"),
        ("9.2", "coreutils-9-2"),
        ("9.3", "coreutils"),
        ("9.4.10-x", "coreutils"),
        ("10.0", "coreutils"),
        ("", "coreutils"),
    ],
)
def test_a_version_of_cp_has_the_policy_of_its_range(version: str, name: str) -> None:
    assert of_version(version) == name


def test_what_a_process_gave_up_it_does_not_try_again(store: Store) -> None:
    store.install(policies.PNPM_12, HARDLINK, "hardlink:EXDEV")
    assert store.install(policies.PNPM_12, HARDLINK, into="two").counts == ALL_OF["clone"]
    forget_process()
    assert store.install(policies.PNPM_12, HARDLINK, into="three").counts == ALL_OF["hardlink"]


def test_the_first_package_establishes_a_mode_for_those_that_follow(store: Store) -> None:
    store.install(policies.PNPM_11, CLONE)
    second = store.install(policies.PNPM_11, CLONE, "clone:EOPNOTSUPP:nth=3", into="two")
    assert second.counts == ONE_COPY
    with pytest.raises(LinkError):
        store.install(policies.PNPM_11, CLONE, "clone:EIO", into="three")
    assert store.installed("three") == 0


def test_what_was_linked_before_a_new_start_is_linked_again(store: Store) -> None:
    store.install(policies.BUN, HARDLINK, "hardlink:EXDEV:nth=4")
    linked = [os.stat(f"{store.root}/one/{path}").st_nlink for path in PACKAGE]
    assert linked == [1] * FILES


def test_what_counts_as_one_refusal_after_a_new_start_is_told_once(store: Store) -> None:
    report = store.install(policies.BUN, HARDLINK, "hardlink:EXDEV:nth=4")
    assert [(told.edge.mode, told.edge.fallback) for told in report.transitions] == [
        (HARDLINK, COPY)
    ]


def test_who_promises_the_times_of_directories_keeps_them(store: Store) -> None:
    past = 1_000_000_000
    os.utime(f"{store.root}/store/pkg", (past, past))
    for policy, kept in ((policies.COREUTILS, True), (policies.YARN, True), (policies.UV, False)):
        store.install(policy, CLONE, into=policy.name)
        assert (os.stat(f"{store.root}/{policy.name}/pkg").st_mtime == past) is kept
        assert (Promise.DIRECTORY_TIMES in policy.waives) is not kept


# --- the data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELLED)
def test_a_policy_speaks_of_every_platform_and_says_where_it_was_read(name: str) -> None:
    policy = policies.ALL[name]
    assert policy.name == name
    assert getattr(policies, name.upper().replace("-", "_")) is policy
    spoken = set(policy.platforms()) | set(policy.defaults)
    assert spoken >= {"linux"}
    if any(edge.mode for edge in policy.edges):
        modes = {edge.platform for edge in policy.edges if edge.mode}
        assert modes >= set(EVERYWHERE) - set(policy.defaults), modes
    assert "2026" in policy.source


@pytest.mark.parametrize("name", MODELLED)
def test_every_condition_of_every_mode_that_a_policy_knows_has_an_answer(name: str) -> None:
    policy = policies.ALL[name]
    known = {(edge.platform, edge.mode) for edge in policy.edges if edge.mode}
    for platform, mode in known:
        assert mode is not None
        for condition in Condition:
            if condition is Condition.EXISTS:
                continue
            for established in (False, True):
                found = policy.edge(
                    platform, mode, PRIMITIVES[mode], condition, established=established
                )
                assert found is not None, (platform, mode, condition, established)


@pytest.mark.parametrize("name", MODELLED)
def test_no_policy_goes_round_in_circles(name: str) -> None:
    policy = policies.ALL[name]
    for mode in LinkMode:
        for condition in Condition:
            refused = dict.fromkeys(PRIMITIVES.values(), condition)
            ended = policy.outcome("linux", mode, refused)
            assert ended.mode is None
            assert len({edge.mode for edge in ended.edges}) == len(ended.edges)


def test_one_error_by_name_goes_before_its_condition() -> None:
    dvc = policies.DVC
    for error, then in (("EPERM", COPY), ("EACCES", Step.ABORT), ("", COPY)):
        found = dvc.edge(
            "linux", CLONE, PRIMITIVES[CLONE], Condition.DENIED, error=error
        )  # fmt: skip
        assert found is not None
        assert found.then == then
        assert found.id.endswith("/EACCES") is (error == "EACCES")


def test_defaults_differ_from_platform_to_platform() -> None:
    assert [policies.UV.default_on(name) for name in EVERYWHERE] == [CLONE, CLONE, HARDLINK]
    assert [policies.PNPM_12.default_on(name) for name in EVERYWHERE] == [HARDLINK, CLONE, CLONE]
    assert [policies.BUN.default_on(name) for name in EVERYWHERE] == [HARDLINK, CLONE, HARDLINK]


def test_only_the_reference_waives_nothing() -> None:
    assert not policies.REFERENCE.waives
    assert all(policies.ALL[name].waives for name in MODELLED)
    assert Promise.FILE_TIMES not in policies.COREUTILS.waives


def test_the_pnpm_of_today_has_a_short_name() -> None:
    assert policies.PNPM is policies.ALL["pnpm"] is policies.PNPM_12
    with pytest.raises(KeyError):
        policies.ALL["nobody"]
    assert not hasattr(policies, "NOBODY")


def test_isolation_is_weakened_by_those_who_say_so() -> None:
    """Rule 1 is not theirs: an edge from clone to hardlink shares what was to be isolated."""
    weakening = {
        name
        for name in policies.ALL
        if any(
            edge.mode is CLONE and edge.fallback is HARDLINK for edge in policies.ALL[name].edges
        )
    }
    assert weakening == {"uv", "pnpm-11", "pnpm-12", "orogene", "rattler", "yarn"}


def test_a_single_file_is_never_begun_again(ground: str) -> None:
    trees.build(f"{ground}/store", PACKAGE)
    assert policies.BUN.restarts
    assert policies.BUN.memory is Memory.PROCESS
    injection = Injection(parse_all(["hardlink:EXDEV"]), standing_in=False)
    with injection, faulty(injection, LinuxPlatform(REFLINKING)) as platform:
        report = link_file(
            f"{ground}/store/pkg/a.js", f"{ground}/a.js", policy=policies.BUN, mode=HARDLINK,
            platform=platform,
        )  # fmt: skip
    assert report.counts == {COPY: 1}
