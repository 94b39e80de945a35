"""Images of macOS and Windows: what their tools are asked, and what becomes of a failure halfway.

The tools are stand-ins on PATH. They keep a log, fail as often as told, and print what the real
ones printed on machines of others: `recorded` has it, with the source of each.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import (
    FILESYSTEMS,
    SYSTEMS,
    image_tools,
    images,
    missing,
    promises,
    provider_of,
    registry,
)
from pytest_linkmode.filesystems.base import directory_mends
from pytest_linkmode.filesystems.image_tools import DISKPART, HDIUTIL, Image, Tool
from pytest_linkmode.filesystems.registry import FOUND, KEPT, UNDONE
from pytest_linkmode.processes import CommandFailed

RECORDED = Path(__file__).parent / "recorded"

PROGRAM = """#!{python} -IS
import json, os, sys
state, name = {state!r}, os.path.basename(sys.argv[0])
script = open(sys.argv[2]).read().splitlines() if name == "diskpart" else []
said = [name, *(script or sys.argv[1:])]

def at(what):
    return os.path.join(state, what)

def put(what, text):
    open(at(what), "w").write(text)

def drop(what):
    if os.path.exists(at(what)):
        os.unlink(at(what))

def fail():
    stream = sys.stdout if script else sys.stderr
    stream.write(plan["said"])
    sys.exit(plan["status"])

with open(at("log"), "a") as log:
    log.write(json.dumps(said) + "\\n")
disks = [line for line in script if " vdisk" in line]
step = disks[-1].split()[0] if script else said[1]
image = disks[0].split('"')[1] if script else said[-1]
attached, mounted = os.path.exists(at("attached")), os.path.exists(at("mounted"))
plan = json.load(open(at(step))) if os.path.exists(at(step)) else {{"times": 0}}
fails = plan["times"] > 0
if fails:
    put(step, json.dumps({{**plan, "times": plan["times"] - 1}}))
    if not plan["halfway"]:
        fail()
if step == "create":
    open(image, "x").close()
if step == "attach":
    if attached or not os.path.exists(image):
        sys.exit("attached already, or not there")
    put("attached", image)
    if script:
        if open(image).read():
            sys.exit("There is not enough usable space for this operation.")
        open(image, "w").write("a partition")
    if fails:
        fail()
    put("mounted", script[-1].split('"')[1] if script else said[said.index("-mountpoint") + 1])
if step in ("detach", "eject"):
    by_point = script[0].split('"')[1] if "volume" in said[1] else "" if script else image
    if not attached or (not by_point.startswith("/dev/") and by_point and not mounted):
        sys.exit("No such file or directory")
    drop("mounted")
    if fails:
        fail()
    drop("attached")
if step == "info":
    import plistlib
    told = plistlib.load(open({told!r}, "rb"))
    told["images"][-1]["image-path"] = open(at("attached")).read() if attached else "another"
    sys.stdout.buffer.write(plistlib.dumps(told))
"""
"""All tools. A step fails as the file of its name in `state` says, `halfway` after it was begun;
`attached` says which image is, `mounted` where. A detach by mount point needs one, and what has
partitions is given no others.
"""


@dataclass(frozen=True)
class Output:
    """What a tool printed once on a machine of somebody else."""

    name: str
    tool: str
    step: str
    said: str
    where: str
    source: str
    status: int | None = None
    halfway: bool = False


with open(RECORDED / "outputs.toml", "rb") as _file:
    CORPUS = tomllib.load(_file)
OUTPUTS = [Output(**row) for row in CORPUS["output"]]
FAILURES = [output for output in OUTPUTS if output.status != 0]


class Stand:
    """Stand-ins for both tools: how often each step fails, and what they were asked."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.state.mkdir()
        self.bin = root / "bin"
        self.bin.mkdir()
        text = PROGRAM.format(
            python=sys.executable,
            state=str(self.state),
            told=str(RECORDED / "hdiutil-info-three.plist"),
        )
        for name in ("hdiutil", "diskutil", "diskpart"):
            program = self.bin / name
            program.write_text(text)
            program.chmod(stat.S_IRWXU)
        self.root = root

    def fails(
        self, step: str, times: int, said: str = "resource busy", *, halfway: bool = False
    ) -> None:
        plan = {"times": times, "said": said, "status": 16, "halfway": halfway}
        (self.state / step).write_text(json.dumps(plan))

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

    def is_mounted(self, point: str) -> bool:
        """Whether an image is mounted there."""
        mounted = self.state / "mounted"
        return mounted.exists() and mounted.read_text() == point

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
    monkeypatch.setattr(images, "is_mounted", made.is_mounted)
    return made


@pytest.fixture(params=[HDIUTIL, DISKPART], ids=["hdiutil", "diskpart"])
def tool(request: pytest.FixtureRequest) -> Tool:
    found: Tool = request.param
    return found


def test_hdiutil_is_asked_for_an_image_that_nobody_sees() -> None:
    image = Image("/t/i.sparseimage", "/t/root", "Case-sensitive APFS", 256 << 20)
    assert image_tools.hdiutil_create(image)[0] == (
        *("hdiutil", "create", "-size", "256m", "-type", "SPARSE"),
        *("-fs", "Case-sensitive APFS", "-volname", "linkmode", "/t/i.sparseimage"),
    )
    assert image_tools.hdiutil_attach(image)[0] == (
        *("hdiutil", "attach", "-nobrowse", "-noautoopen", "-owners", "on"),
        *("-mountpoint", "/t/root", "/t/i.sparseimage"),
    )
    assert image_tools.hdiutil_detach("/dev/disk4")[0] == ("hdiutil", "detach", "/dev/disk4")
    assert image_tools.hdiutil_force("/dev/disk4")[0] == (
        "hdiutil",
        "detach",
        "-force",
        "/dev/disk4",
    )
    assert image_tools.diskutil_eject("/dev/disk4")[0] == ("diskutil", "eject", "/dev/disk4")


def test_diskpart_is_asked_by_a_script() -> None:
    image = Image("C:\\a b\\i.vhdx", "C:\\a b\\root", "refs", 2 << 30)
    assert image_tools.diskpart_create(image)[1] == (
        'create vdisk file="C:\\a b\\i.vhdx" maximum=2048 type=expandable\r\n'
    )
    assert image_tools.diskpart_attach(image)[1].splitlines() == [
        'select vdisk file="C:\\a b\\i.vhdx"',
        "attach vdisk",
        "convert gpt",
        "create partition primary",
        "format fs=refs label=linkmode quick",
        'assign mount="C:\\a b\\root"',
    ]
    forced = ['select vdisk file="C:\\a b\\i.vhdx"', "detach vdisk"]
    assert image_tools.diskpart_force(image)[1].splitlines() == forced
    assert image_tools.diskpart_detach(image)[1].splitlines() == [
        'select volume="C:\\a b\\root"',
        "remove all dismount",
        *forced,
    ]


def test_a_path_that_would_end_its_quotes_is_no_part_of_a_script() -> None:
    with pytest.raises(ValueError, match="diskpart script"):
        image_tools.diskpart_create(Image('C:\\"\nclean', "C:\\root", "ntfs", 1 << 30))


def test_an_image_is_known_by_its_path_among_all_that_are_attached() -> None:
    told = (RECORDED / "hdiutil-info-three.plist").read_text()
    devices = image_tools.attached_devices(told, "/private/tmp/brdetect/work.sparseimage")
    assert devices == tuple(
        f"/dev/{name}" for name in ("disk10", "disk11", "disk10s1", "disk10s2", "disk11s1")
    )
    assert image_tools.attached_devices(told, "/private/tmp/brdetect/demo.dmg")[0] == "/dev/disk6"
    assert image_tools.attached_devices(told, "/private/tmp/elsewhere/work.sparseimage") == ()
    nothing = (RECORDED / "hdiutil-info-nothing.plist").read_text()
    assert image_tools.attached_devices(nothing, "/private/tmp/brdetect/work.sparseimage") == ()


def test_an_image_is_known_by_its_real_path(tmp_path: Path) -> None:
    """As the temporary directories of macOS are told: below /private, to which symlinks lead."""
    (tmp_path / "private").mkdir()
    (tmp_path / "tmp").symlink_to("private")
    told = (RECORDED / "hdiutil-info-three.plist").read_text()
    told = told.replace("/private/tmp/brdetect/work.sparseimage", f"{tmp_path}/private/image")
    assert image_tools.attached_devices(told, f"{tmp_path}/tmp/image")[0] == "/dev/disk10"


def test_the_disk_of_an_image_comes_before_that_of_its_container_whatever_their_numbers() -> None:
    told = (RECORDED / "hdiutil-info-three.plist").read_text()
    told = told.replace("/dev/disk11", "/dev/disk5")
    devices = image_tools.attached_devices(told, "/private/tmp/brdetect/work.sparseimage")
    assert devices[:2] == ("/dev/disk10", "/dev/disk5")


def test_what_is_recorded_has_a_source_and_is_told_apart_by_name() -> None:
    assert len({output.name for output in OUTPUTS}) == len(OUTPUTS)
    for row in (*CORPUS["output"], *CORPUS["told"]):
        assert row["source"].startswith("https://")
        assert row["where"]
    files = {row["file"] for row in CORPUS["told"]}
    assert files == {path.name for path in RECORDED.iterdir() if path.name != "outputs.toml"}


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
    let_go = "eject" if step == "detach" and tool is HDIUTIL else step
    assert stand.steps().count(step) >= 2
    assert let_go in stand.steps()[2:]
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
    stand.fails("attach", 1000, halfway=True)
    image = stand.image(tool)
    with pytest.raises(CommandFailed, match="resource busy"), images.attached(tool, image, no_wait):
        pytest.fail("it is there")
    assert stand.steps()[-1] == "detach"
    assert not stand.attached
    assert not os.path.exists(image.path)


def replayed(*steps: str) -> list[Any]:
    """Return what failed in these steps, to be played by the stand-in of the same tool."""
    return [pytest.param(each, id=each.name) for each in FAILURES if each.step in steps]


@pytest.mark.parametrize("failure", replayed("create", "attach"))
def test_a_failure_that_was_recorded_is_tried_again(stand: Stand, failure: Output) -> None:
    tool = image_tools.TOOLS[failure.tool]
    stand.fails(failure.step, 2, failure.said, halfway=failure.halfway)
    pauses: list[float] = []
    image = stand.image(tool)
    with images.attached(tool, image, pauses.append):
        assert stand.is_mounted(image.point)
    assert len(pauses) >= 2
    assert stand.steps().count(failure.step) == 3
    assert not stand.attached
    assert not os.path.exists(image.path)


@pytest.mark.parametrize("failure", replayed("create", "attach"))
def test_a_failure_that_was_recorded_and_stays_is_shown_as_it_was_said(
    stand: Stand, failure: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ATTEMPTS", 2)
    tool = image_tools.TOOLS[failure.tool]
    stand.fails(failure.step, 1000, failure.said, halfway=failure.halfway)
    image = stand.image(tool)
    with pytest.raises(CommandFailed) as caught, images.attached(tool, image, no_wait):
        pytest.fail("it is there")
    assert failure.said.strip() in str(caught.value)
    assert stand.steps().count(failure.step) == 2
    assert not stand.attached
    assert not os.path.exists(image.path)


@pytest.mark.parametrize("failure", replayed("detach"))
@pytest.mark.parametrize("times", [1, 1000])
def test_an_image_is_let_go_whatever_was_recorded_of_a_detach(
    stand: Stand, failure: Output, times: int
) -> None:
    image = stand.image(HDIUTIL)
    with images.attached(HDIUTIL, image, no_wait):
        stand.fails("detach", times, failure.said, halfway=failure.halfway)
    assert not stand.attached
    assert not os.path.exists(image.path)
    assert all(said[-1] == "/dev/disk10" for said in stand.asked if said[1] in ("detach", "eject"))
    assert stand.steps().count("eject") == (times > 1)


def test_what_was_unmounted_and_not_let_go_is_let_go_by_its_path(stand: Stand) -> None:
    image = stand.image(DISKPART)
    with images.attached(DISKPART, image, no_wait):
        stand.fails("detach", 1, halfway=True)
    first, second = (said for said in stand.asked if "detach vdisk" in said)
    assert first[1].startswith("select volume=")
    assert len(second) == 3
    assert not stand.attached
    assert not os.path.exists(image.path)


def test_what_neither_detach_nor_eject_let_go_is_made_to(stand: Stand) -> None:
    stand.fails("detach", 2)
    stand.fails("eject", 1)
    with images.attached(HDIUTIL, stand.image(HDIUTIL), no_wait):
        pass
    assert stand.asked[-1] == ["hdiutil", "detach", "-force", "/dev/disk10"]
    assert sum("-force" in said for said in stand.asked) == 1


def test_what_has_partitions_already_is_made_anew(stand: Stand) -> None:
    stand.fails("attach", 1, halfway=True)
    with images.attached(DISKPART, stand.image(DISKPART), no_wait):
        assert stand.steps() == ["create", "attach", "detach", "detach", "create", "attach"]


def test_a_success_that_mounted_nothing_is_none(
    stand: Stand, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who got the directory below would test the filesystem that it lies on."""
    image = stand.image(tool)
    monkeypatch.setattr(images, "is_mounted", lambda _point: False)
    failing = pytest.raises(CommandFailed, match=f"nothing is mounted at {image.point}")
    with failing, images.attached(tool, image, no_wait):
        pytest.fail("it is there")
    assert not stand.attached
    assert not os.path.exists(image.path)


def test_something_is_mounted_where_another_filesystem_begins(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert not images.is_mounted(str(tmp_path / "root"))
    assert images.is_mounted("/proc")


def test_a_directory_with_braces_in_its_name_is_as_good_as_any(stand: Stand, tool: Tool) -> None:
    root = stand.root / "{0} {script}"
    root.mkdir()
    image = Image(str(root / f"image{tool.suffix}"), str(root / "root"), "exfat", 1 << 30)
    with images.attached(tool, image, no_wait):
        assert os.path.isfile(image.path)
    assert not stand.attached


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
    system = "macOS" if "hdiutil" in FILESYSTEMS[name].providers else "Windows"
    assert error.checked == (
        f"--linkmode-dir={name}=PATH: not given",
        f"{name}: made on {system}, and this is Linux",
    )
    assert error.mends == (f"run it on {system}, as in CI",)


@pytest.mark.parametrize(
    ("name", "here", "mend"),
    [
        ("btrfs", "linux", "name a directory on one: --linkmode-dir=btrfs=PATH"),
        ("btrfs", "win32", "run it on Linux, as in WSL 2"),
        ("btrfs", "darwin", "run it on Linux, as in a virtual machine"),
        ("refs", "win32", "name a directory on one: --linkmode-dir=refs=PATH"),
        ("refs", "darwin", "run it on Windows"),
        ("exfat", "darwin", "name a directory on one"),
        ("disk", "win32", "name a directory on one"),
    ],
)
def test_what_mends_it_is_something_that_can_be_done_on_this_system(
    name: str, here: str, mend: str
) -> None:
    assert directory_mends(FILESYSTEMS[name], here)[0].startswith(mend)


def test_who_may_not_attach_disks_is_told_what_gives_the_right(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "HERE", DISKPART.system)
    monkeypatch.setattr(processes, "which", lambda tool: str(stand.bin / tool))
    error = images.vhdx().missing(FILESYSTEMS["refs"], Settings())
    assert error is not None
    assert error.checked == ("the right to attach disks (an administrator): missing",)
    assert error.mends[0] == "open the shell as an administrator"
    assert stand.asked == []


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


def test_macos_keeps_symlinks_on_exfat() -> None:
    exfat = FILESYSTEMS["exfat"]
    assert "symlink" not in promises(exfat, "darwin")[1]
    assert "symlink" in promises(exfat, "linux")[1]


def test_on_windows_files_do_not_lie_at_the_mount_point(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_linkmode.namespaces import HOST, Place

    provider = images.Images(DISKPART, "image")
    place = Place(str(stand.root), HOST)
    with provider.open(FILESYSTEMS["refs"], place, Settings()) as filesystem:
        point = filesystem.path
    monkeypatch.setattr(images, "HERE", "win32")
    with provider.open(FILESYSTEMS["refs"], place, Settings()) as filesystem:
        assert os.path.basename(point) == os.path.basename(os.path.dirname(filesystem.path))
        assert os.path.isdir(filesystem.path)


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
from pytest_linkmode.filesystems import image_tools, images
tool = image_tools.TOOLS[program]
place = namespaces.Place(os.environ["TMPDIR"], namespaces.HOST)
image_tools.PAUSES = (0.0,)

def left():
    return sorted(n for n in os.listdir(os.environ["TMPDIR"]) if n.startswith("linkmode"))

images.is_mounted = lambda point: os.path.exists(os.path.join(state, "mounted"))
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
for step in ("detach", "eject"):
    with open(os.path.join(state, step), "w") as file:
        plan = {"times": 5 - (step == "eject"), "said": "", "status": 16, "halfway": False}
        json.dump(plan, file)
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
