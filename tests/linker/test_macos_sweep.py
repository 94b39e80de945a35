"""On macOS too every call of a link fails once, and is the last once: over the model.

Directories are cloned whole by one call or item by item, each item a call of the sweep.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.platforms.linux import CALLS
from linker.policies import REFERENCE
from linker.report import LinkReport, Transition
from pytest_linkmode.faults.inprocess import Killed
from pytest_linkmode.layouts import TestFilesystem
from tests.linker.macs import MacEnds, MacTap
from tests.linker.scenes import EXISTING, Scene
from tests.linker.seams import Fault, Tap, descriptors
from tests.linker.verdicts import Ended, wrong

pytestmark = pytest.mark.usefixtures("counted")

ALWAYS = ("EIO",)
ERRORS: dict[str, tuple[str, ...]] = {
    "open": ("EACCES", "EMFILE", "ENOENT", "ENOSPC", "ELOOP", "EINTR"),
    "mkdir": ("EACCES", "EEXIST", "ENOSPC"),
    "stat": ("EACCES", "ENOENT"),
    "chmod": ("EPERM",),
    "utime": ("EPERM",),
    "unlink": ("EACCES", "ENOENT"),
    "rmdir": ("EACCES", "ENOTEMPTY"),
    "clonefileat": (
        *("EXDEV", "EOPNOTSUPP", "EEXIST", "ENOENT", "EDEADLK", "EACCES", "EPERM", "EINTR"),
        *("EAGAIN", "EINVAL", "ENOSPC", "EROFS", "ENAMETOOLONG"),
    ),
    "fclonefileat": (
        *("EXDEV", "EOPNOTSUPP", "EEXIST", "ENOENT", "EDEADLK", "EPERM", "EAGAIN", "EINVAL"),
        *("ENOSPC",),
    ),
    "renameatx_np": ("EEXIST", "EOPNOTSUPP", "EINVAL", "EXDEV", "ENOENT", "EACCES", "ENOSPC"),
    "flistxattr": ("EOPNOTSUPP", "EACCES"),
    "fremovexattr": ("EPERM", "ENODATA"),
    "flock": ("EAGAIN", "ENOLCK"),
    "item_directory": ("EEXIST", "ENOSPC"),
    "item_file": ("EEXIST", "EACCES", "ENOSPC"),
    "item_symlink": ("EEXIST",),
    "item_finish": ("EPERM",),
}
"""Call -> how it can fail, beside an error of the disk: clonefile(2), rename(2), flistxattr(2)."""

WAYS = {"whole": True, "item-by-item": False}
TARGETS = {"fresh-target": None, "existing-target": EXISTING}

CASES = [
    *[(way, existing, LinkMode.CLONE) for way in WAYS for existing in TARGETS],
    *[("whole", "existing-target", mode) for mode in LinkMode if mode is not LinkMode.CLONE],
]


class Met:
    """Takes note of every edge that a link takes."""

    def __init__(self) -> None:
        self.edges: list[Transition] = []

    def transition(self, transition: Transition) -> None:
        self.edges.append(transition)

    def linked(self, report: LinkReport) -> None: ...


def link(scene: Scene, mode: LinkMode, tap: Tap) -> tuple[Ended, list[Transition]]:
    met = Met()
    try:
        report = link_tree(
            scene.source, scene.target, mode=mode, platform=tap.platform, observer=met
        )
    except LinkError as error:
        return Ended(None, error), met.edges
    return Ended(report, None), met.edges


def faults(names: list[str], mode: LinkMode) -> Iterator[Fault]:
    """Yield every error at every call; of modes that are no clones an error of the disk alone."""
    for at, name in enumerate(names, 1):
        for error in (*ALWAYS, *(ERRORS.get(name, ()) if mode is LinkMode.CLONE else ())):
            yield Fault(at, getattr(errno, error))


@pytest.mark.parametrize("user", ["ordinary-user"], indirect=True)
@pytest.mark.parametrize(("way", "existing", "mode"), CASES, ids=str)
def test_whatever_call_fails_the_link_is_whole_or_undone(
    scene: str, user: str, mode: LinkMode, existing: str, way: str
) -> None:
    stage = Scene(scene, existing=TARGETS[existing])
    usual = MacTap(atomic=WAYS[way])
    ended, _ = link(stage, mode, usual)
    assert ended.error is None
    stage.rebuild()
    failures: list[str] = []
    taken: set[str] = set()
    swept = 0
    for fault in faults(usual.names, mode):
        swept += 1
        open_before = descriptors()
        ended, met = link(stage, mode, MacTap(fault, atomic=WAYS[way]))
        found = wrong(stage, mode, ended)
        taken |= {transition.edge.id for transition in met}
        if descriptors() != open_before:
            found.append("descriptors stay open")
        assert fault.hit == usual.names[fault.at - 1], "the calls come in another order"
        if found:
            failures.append(f"{fault}: {ended.error}: {found}")
        if ended.error is None or found:
            stage.rebuild()
    assert swept >= len(usual.names)
    assert not failures, "\n".join([f"{len(failures)} of {swept} cases", *failures[:10]])
    assert taken <= {edge.id for edge in REFERENCE.of("macos")}
    if mode is LinkMode.CLONE:
        assert "clonefileat" in usual.names
        assert ("item_file" in usual.names) is not WAYS[way]
        said = {edge for edge in taken if "/clone-directory/" in edge}
        assert len(said) >= 8


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
def test_on_real_volumes_too_a_broken_disk_at_any_call_leaves_the_target_as_it_was(
    linkmode_fs: TestFilesystem,
) -> None:
    stage = Scene(f"{linkmode_fs.path}/scene")
    atomic = linkmode_fs.name != "btrfs"
    usual = MacTap(atomic=atomic, host=CALLS)
    ended, _ = link(stage, LinkMode.CLONE, usual)
    assert ended.report is not None
    clones = "reflink" in linkmode_fs.can
    assert ended.report.counts == {LinkMode.CLONE if clones else LinkMode.COPY: 7}
    assert {each.proof for each in ended.report.transitions} == (set() if clones else {"modelled"})
    stage.rebuild()
    for at, name in enumerate(usual.names, 1):
        tap = MacTap(Fault(at, errno.EIO), atomic=atomic, host=CALLS)
        ended, _ = link(stage, LinkMode.CLONE, tap)
        assert wrong(stage, LinkMode.CLONE, ended) == [], f"call {at} ({name}): {ended.error}"
        if ended.error is None:
            stage.rebuild()


@pytest.mark.parametrize("user", ["ordinary-user"], indirect=True)
@pytest.mark.parametrize("existing", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_after_a_kill_at_any_call_names_are_whole_and_the_next_run_ends_as_if_nothing_had_been(
    scene: str, user: str, way: str, existing: str
) -> None:
    ends = MacEnds(Scene(scene, existing=TARGETS[existing]), LinkMode.CLONE, atomic=WAYS[way])
    for at in range(1, ends.calls + 1):

        def deed(number: int, name: str, at: int = at) -> None:
            if number >= at:
                raise Killed

        tap = ends.tap(deed)
        with pytest.raises(Killed):
            link_tree(ends.scene.source, ends.scene.target, mode=ends.mode, platform=tap.platform)
        tap.close()
        assert not ends.torn(), f"after call {at}"
        assert not ends.mended(), f"after call {at}"
        ends.scene.rebuild()
    assert ends.calls > 50
