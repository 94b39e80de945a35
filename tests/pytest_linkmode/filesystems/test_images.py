"""Images of macOS and Windows: what their tools are asked, and what becomes of a failure halfway.

The tools are stand-ins on PATH, which keep a log, fail as often as told and answer as the real ones
do: by their exit status.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import (
    FILESYSTEMS,
    SYSTEMS,
    images,
    missing,
    promises,
    provider_of,
    registry,
)
from pytest_linkmode.filesystems.images import DISKPART, HDIUTIL, Image, Tool
from pytest_linkmode.filesystems.registry import FOUND, KEPT, UNDONE
from pytest_linkmode.processes import CommandFailed

PROGRAM = """#!{python} -IS
import json, os, plistlib, sys
state, name = {state!r}, os.path.basename(sys.argv[0])
script = open(sys.argv[2]).read() if name == "diskpart" else ""
said = [name, *sys.argv[1:]] if not script else [name, *script.splitlines()]
with open(os.path.join(state, "log"), "a") as log:
    log.write(json.dumps(said) + "\\n")
disks = [line.split() for line in said[1:] if " vdisk" in line]
step = disks[-1][0] if script else said[1]
image = " ".join(map(" ".join, disks)).split('"')[1] if script else said[-1]
left, attached = os.path.join(state, step), os.path.join(state, "attached")
if os.path.exists(left) and (count := int(open(left).read())):
    open(left, "w").write(str(count - 1))
    if os.path.exists(left + ".halfway"):
        open(attached, "w").write(image)
    sys.exit("resource busy")
if step == "create":
    open(image, "x").close()
if step == "attach":
    if os.path.exists(attached):
        sys.exit("attached already")
    open(attached, "w").write(image)
if step == "detach":
    if not os.path.exists(attached):
        sys.exit("not attached")
    os.unlink(attached)
if step == "info":
    images = [{{"image-path": "/Users/somebody/Other.dmg", "system-entities": [
        {{"dev-entry": "/dev/disk3", "mount-point": "/Volumes/Other"}}]}}]
    if os.path.exists(attached):
        images.append({{"image-path": open(attached).read(), "system-entities": [
            {{"dev-entry": "/dev/disk4s1"}}, {{"dev-entry": "/dev/disk4"}}]}})
    sys.stdout.buffer.write(plistlib.dumps({{"images": images}}))
"""
"""Both tools. A step fails as often as the file of its name in `state` says, for `.halfway` after
it was taken; `attached` says which image is.
"""

TOLD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>framework</key><string>654.40.2</string>
<key>images</key><array>
<dict>
<key>image-path</key><string>/private/tmp/theirs/image.sparseimage</string>
<key>image-type</key><string>disk image</string>
<key>system-entities</key><array>
<dict><key>dev-entry</key><string>/dev/disk9</string></dict>
</array></dict>
<dict>
<key>image-path</key><string>/private/tmp/ours/image.sparseimage</string>
<key>image-type</key><string>sparse disk image</string>
<key>system-entities</key><array>
<dict><key>content-hint</key><string>41504653-0000-11AA-AA11-0030654</string>
<key>dev-entry</key><string>/dev/disk11s1</string>
<key>mount-point</key><string>/private/tmp/ours/root</string></dict>
<dict><key>content-hint</key><string>GUID_partition_scheme</string>
<key>dev-entry</key><string>/dev/disk10</string></dict>
<dict><key>content-hint</key><string>EF57347C-0000-11AA-AA11-0030654</string>
<key>dev-entry</key><string>/dev/disk11</string></dict>
<dict><key>content-hint</key><string>Apple_APFS</string>
<key>dev-entry</key><string>/dev/disk10s1</string></dict>
</array></dict>
<dict><key>image-path</key><string>/private/tmp/waiting.dmg</string></dict>
</array></dict></plist>
"""
"""What `hdiutil info -plist` prints, in the form that is published of it."""


class Stand:
    """Stand-ins for both tools: how often each step fails, and what they were asked."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.state.mkdir()
        self.bin = root / "bin"
        self.bin.mkdir()
        for name in ("hdiutil", "diskpart"):
            program = self.bin / name
            program.write_text(PROGRAM.format(python=sys.executable, state=str(self.state)))
            program.chmod(stat.S_IRWXU)
        self.root = root

    def fails(self, step: str, times: int) -> None:
        (self.state / step).write_text(str(times))

    @property
    def asked(self) -> list[list[str]]:
        log = self.state / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def steps(self) -> list[str]:
        """Return which steps were taken, in order; looking is none."""
        taken = []
        for name, *said in self.asked:
            disks = [line for line in said if " vdisk" in line]
            taken.append(disks[-1].split()[0] if name == "diskpart" else said[0])
        return [step for step in taken if step != "info"]

    @property
    def attached(self) -> bool:
        """Whether an image is attached."""
        return (self.state / "attached").exists()

    def image(self, tool: Tool) -> Image:
        point = self.root / "root"
        point.mkdir(exist_ok=True)
        path = self.root / f"image{tool.suffix}"
        return Image(str(path), str(point), next(iter(tool.formats.values())), 1 << 30)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin), prepend=os.pathsep)
    unlink = os.unlink

    def guarded(path: str, **named: int) -> None:
        if made.attached and str(path).endswith(DISKPART.suffix):
            raise PermissionError(13, "The process cannot access the file", path)
        unlink(path, **named)

    monkeypatch.setattr(os, "unlink", guarded)
    return made


@pytest.fixture(params=[HDIUTIL, DISKPART], ids=["hdiutil", "diskpart"])
def tool(request: pytest.FixtureRequest) -> Tool:
    found: Tool = request.param
    return found


def test_hdiutil_is_asked_for_an_image_that_nobody_sees() -> None:
    image = Image("/t/i.sparseimage", "/t/root", "Case-sensitive APFS", 256 << 20)
    assert images.hdiutil_create(image)[0] == (
        *("hdiutil", "create", "-quiet", "-size", "256m", "-type", "SPARSE"),
        *("-fs", "Case-sensitive APFS", "-volname", "linkmode", "/t/i.sparseimage"),
    )
    assert images.hdiutil_attach(image)[0][-3:] == ("-mountpoint", "/t/root", "/t/i.sparseimage")
    assert images.hdiutil_detach(image, force=False)[0] == (
        "hdiutil",
        "detach",
        "-quiet",
        "/t/root",
    )
    assert "-force" in images.hdiutil_detach(image, force=True)[0]


def test_diskpart_is_asked_by_a_script() -> None:
    image = Image("C:\\a b\\i.vhdx", "C:\\a b\\root", "refs", 2 << 30)
    assert images.diskpart_create(image)[1] == (
        'create vdisk file="C:\\a b\\i.vhdx" maximum=2048 type=expandable\r\n'
    )
    assert images.diskpart_attach(image)[1].splitlines() == [
        'select vdisk file="C:\\a b\\i.vhdx"',
        "attach vdisk",
        "convert gpt",
        "create partition primary",
        "format fs=refs label=linkmode quick",
        'assign mount="C:\\a b\\root"',
    ]
    forced = ['select vdisk file="C:\\a b\\i.vhdx"', "detach vdisk"]
    assert images.diskpart_detach(image, force=True)[1].splitlines() == forced
    assert images.diskpart_detach(image, force=False)[1].splitlines() == [
        'select volume="C:\\a b\\root"',
        "remove all dismount",
        *forced,
    ]


def test_a_path_that_would_end_its_quotes_is_no_part_of_a_script() -> None:
    with pytest.raises(ValueError, match="diskpart script"):
        images.diskpart_create(Image('C:\\"\nclean', "C:\\root", "ntfs", 1 << 30))


def test_an_image_is_known_by_its_path_among_all_that_are_attached() -> None:
    ours = "/private/tmp/ours/image.sparseimage"
    devices = images.attached_devices(TOLD, ours)
    assert devices[0] == "/dev/disk10"
    assert set(devices[1:]) == {"/dev/disk11", "/dev/disk10s1", "/dev/disk11s1"}
    assert images.attached_devices(TOLD, "/private/tmp/waiting.dmg") == ()
    assert images.attached_devices(TOLD, "/private/tmp/elsewhere/image.sparseimage") == ()


def no_wait(_seconds: float) -> None:
    """Wait for nothing."""


def test_an_image_is_there_as_long_as_the_context(stand: Stand, tool: Tool) -> None:
    image = stand.image(tool)
    with images.attached(tool, image, no_wait) as path:
        assert path == image.point
        assert os.path.isfile(image.path)
        assert stand.steps() == ["create", "attach"]
    assert stand.steps() == ["create", "attach", "detach"]
    assert not os.path.exists(image.path)


@pytest.mark.parametrize("step", ["create", "attach", "detach"])
def test_a_step_that_fails_for_a_while_is_tried_again(stand: Stand, tool: Tool, step: str) -> None:
    stand.fails(step, 2)
    pauses: list[float] = []
    image = stand.image(tool)
    with images.attached(tool, image, pauses.append):
        assert os.path.isfile(image.path)
    assert len(pauses) == 2
    assert stand.steps().count(step) >= 3
    assert not os.path.exists(image.path)


@pytest.mark.parametrize("step", ["create", "attach"])
def test_a_step_that_never_works_leaves_nothing(stand: Stand, tool: Tool, step: str) -> None:
    stand.fails(step, 1000)
    image = stand.image(tool)
    with pytest.raises(CommandFailed, match="resource busy"), images.attached(tool, image, no_wait):
        pytest.fail("it is there")
    assert stand.steps().count(step) == images.ATTEMPTS
    assert not os.path.exists(image.path)


def test_an_image_that_was_attached_and_no_more_is_let_go(stand: Stand, tool: Tool) -> None:
    stand.fails("attach", 1000)
    (stand.state / "attach.halfway").touch()
    image = stand.image(tool)
    with pytest.raises(CommandFailed, match="resource busy"), images.attached(tool, image, no_wait):
        pytest.fail("it is there")
    assert stand.steps()[-1] == "detach"
    assert not stand.attached
    assert not os.path.exists(image.path)


def test_what_is_not_let_go_is_made_to(stand: Stand) -> None:
    stand.fails("detach", images.ATTEMPTS - 1)
    with images.attached(HDIUTIL, stand.image(HDIUTIL), no_wait):
        assert "-force" not in stand.asked[-1]
    assert "-force" in stand.asked[-1]


def test_a_test_that_fails_leaves_nothing_either(stand: Stand, tool: Tool) -> None:
    image = stand.image(tool)
    with pytest.raises(ZeroDivisionError), images.attached(tool, image, no_wait):
        1 / 0  # noqa: B018
    assert stand.steps()[-1] == "detach"
    assert not os.path.exists(image.path)


NAMES: Sequence[tuple[str, str]] = [
    *(("hdiutil", name) for name in HDIUTIL.formats),
    *(("vhdx", name) for name in DISKPART.formats),
]


@pytest.mark.parametrize(("provider", "name"), NAMES)
def test_every_format_is_a_filesystem_that_can_be_asked_for(provider: str, name: str) -> None:
    assert provider in FILESYSTEMS[name].providers


@pytest.mark.parametrize("name", ["refs", "fat32", "apfs", "apfs-case-sensitive", "hfs"])
def test_what_this_system_cannot_make_is_refused_with_the_reason(name: str) -> None:
    error = missing(FILESYSTEMS[name], Settings())
    assert error is not None
    assert any(system in line for line in error.checked for system in ("darwin", "win32"))


def test_what_only_another_system_has_is_not_even_imported() -> None:
    other = next(word for word, system in SYSTEMS.items() if system != sys.platform)
    provider = provider_of(other)
    kind = next(kind for kind in FILESYSTEMS.values() if other in kind.providers)
    assert provider.missing(kind, Settings()) is not None
    with pytest.raises(Unavailable, match=other):
        provider.open(kind, None, Settings())  # type: ignore[arg-type]


def test_windows_folds_case_and_has_one_bit_for_permissions_on_every_filesystem() -> None:
    claims, lacks = promises(FILESYSTEMS["ntfs"], "win32")
    assert {"case-insensitive", "fixed-permissions", "coarse-times", "hardlink"} <= claims
    assert not claims & lacks
    assert "reflink" in lacks
    assert promises(FILESYSTEMS["ntfs"], "linux")[0] == FILESYSTEMS["ntfs"].claims


def test_the_provider_gives_a_filesystem_and_says_where_its_image_lies(
    stand: Stand, tool: Tool
) -> None:
    from pytest_linkmode.namespaces import HOST, Place

    name = next(iter(tool.formats))
    provider = images.Images(tool, "image")
    with provider.open(FILESYSTEMS[name], Place(str(stand.root), HOST), Settings()) as filesystem:
        assert filesystem.name == name
        assert os.path.isdir(filesystem.path)
        assert os.path.isfile(filesystem.facts["image"])
    assert not os.path.exists(filesystem.facts["image"])
    assert sorted(os.listdir(stand.root)) == ["bin", "state"]
    assert provider.missing(FILESYSTEMS[name], Settings()) is not None  # this is neither system


@pytest.mark.parametrize(
    ("tool", "name", "size", "said"),
    [
        (DISKPART, "ntfs", 3 << 30, "maximum=3072"),
        (DISKPART, "refs", 1 << 20, "maximum=4096"),
        (HDIUTIL, "exfat", 3 << 30, "3072m"),
        (HDIUTIL, "apfs", 1 << 20, "256m"),
    ],
)
def test_an_image_has_the_size_that_was_asked_for_and_no_less_than_its_filesystem_needs(
    stand: Stand, tool: Tool, name: str, size: int, said: str
) -> None:
    from pytest_linkmode.namespaces import HOST, Place

    place, settings = Place(str(stand.root), HOST), Settings(image_size=size)
    with images.Images(tool, "image").open(FILESYSTEMS[name], place, settings):
        assert said in " ".join(stand.asked[0]).split()


def test_the_provider_says_what_failed(
    stand: Stand, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_linkmode.namespaces import HOST, Place

    monkeypatch.setattr(images, "ATTEMPTS", 1)
    stand.fails("create", 1)
    name = next(iter(tool.formats))
    provider = images.Images(tool, "image")
    opened = provider.open(FILESYSTEMS[name], Place(str(stand.root), HOST), Settings())
    with pytest.raises(Unavailable, match="resource busy"), opened:
        pytest.fail("it is there")
    assert sorted(os.listdir(stand.root)) == ["bin", "state"]


# After a kill

KILLED = """
state, program, moment = arguments
os.environ["PATH"] = os.path.join(os.path.dirname(state), "bin") + os.pathsep + os.environ["PATH"]
from pytest_linkmode.filesystems import images
tool = images.TOOLS[program]
place = namespaces.Place(os.environ["TMPDIR"], namespaces.HOST)
images.PAUSES = (0.0,)

def left():
    return sorted(n for n in os.listdir(os.environ["TMPDIR"]) if n.startswith("linkmode"))

unlink = os.unlink
def guarded(path, **named):
    if str(path).endswith(".vhdx") and os.path.exists(os.path.join(state, "attached")):
        raise PermissionError(13, "The process cannot access the file", path)
    unlink(path, **named)
os.unlink = guarded

def victim():
    if moment != "attached":
        run = images.run
        def dying(command, directory):
            said = run(command, directory)
            if moment in " ".join(command[0]) + command[1]:
                die()
            return said
        images.run = dying
    with images.Images(tool, "image").open(
        FILESYSTEMS[next(iter(tool.formats))], place, Settings(keep=moment == "kept")
    ) as filesystem:
        if moment == "attached":
            die()

assert in_child(victim) == (0 if moment == "kept" else -signal.SIGKILL)
found = [[f.step, f.action, f.why] for f in registry.clean(dry_run=True)]
before = os.path.exists(os.path.join(state, "attached"))
"""


@pytest.mark.parametrize("moment", ["create", "attach", "attached", "kept"])
def test_what_a_killed_run_left_attached_is_let_go_and_removed(
    stand: Stand, tool: Tool, moment: str, script: Callable[..., Any]
) -> None:
    shown, before, found, after = script(
        KILLED
        + """
done = [[f.step, f.action, f.why] for f in registry.clean()]
show([found, before, done, [left(), os.listdir(registry.directory())]])
""",
        str(stand.state),
        tool.program,
        moment,
    )
    assert shown == [["image", FOUND, ""], ["tree", FOUND, ""]]
    assert before is (moment != "create")
    assert found == [["image", UNDONE, ""], ["tree", UNDONE, ""]]
    assert after == [[], []]
    assert not stand.attached


def test_what_cannot_be_let_go_stays_noted_until_it_can(
    stand: Stand, tool: Tool, script: Callable[..., Any]
) -> None:
    first, second = script(
        KILLED
        + """
with open(os.path.join(state, "detach"), "w") as times:
    times.write("5")
first = [[f.step, f.action] for f in registry.clean()]
assert left()
show([first, [[f.step, f.action] for f in registry.clean()]])
assert not left() and not os.listdir(registry.directory())
""",
        str(stand.state),
        tool.program,
        "attached",
    )
    assert first == [["image", KEPT], ["tree", KEPT]]
    assert second == [["image", UNDONE], ["tree", UNDONE]]
    assert not stand.attached


def test_an_image_that_is_another_now_is_left_alone(
    stand: Stand, tool: Tool, script: Callable[..., Any]
) -> None:
    found = script(
        KILLED
        + """
import glob
path, = glob.glob(os.path.join(os.environ["TMPDIR"], "linkmode*", "image*"))
os.rename(path, path + ".old")
open(path, "w").close()
show([[f.step, f.action, f.why] for f in registry.clean()])
assert os.path.exists(path)
""",
        str(stand.state),
        tool.program,
        "attached",
    )
    assert found == [
        ["image", KEPT, "something else has that name now"],
        ["tree", KEPT, "something in it is kept"],
    ]
    assert stand.steps() == ["create", "attach"]


def test_mount_points_are_found_where_no_table_tells_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image" / "root").mkdir(parents=True)
    assert not registry.mount_points_below(str(tmp_path))
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith("root"))
    assert registry.mount_points_below(str(tmp_path))
