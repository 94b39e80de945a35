"""Images of macOS and Windows: what their tools are asked, and what becomes of a failure halfway.

The tools are stand-ins on PATH, which keep a log, fail as often as told and answer as the real ones
do: by their exit status.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, SYSTEMS, images, missing, promises, provider_of
from pytest_linkmode.filesystems.images import DISKPART, HDIUTIL, Image, Tool
from pytest_linkmode.processes import CommandFailed

PROGRAM = """#!{python} -IS
import json, os, sys
state, name = {state!r}, os.path.basename(sys.argv[0])
script = open(sys.argv[2]).read() if name == "diskpart" else ""
said = [name, *sys.argv[1:]] if not script else [name, *script.splitlines()]
with open(os.path.join(state, "log"), "a") as log:
    log.write(json.dumps(said) + "\\n")
words = " ".join(said)
step = next(s for s in ("create vdisk", "hdiutil create", "detach", "attach") if s in words)
left = os.path.join(state, step.split()[-1].replace("vdisk", "create"))
if os.path.exists(left) and int(open(left).read()):
    count = int(open(left).read())
    open(left, "w").write(str(count - 1))
    sys.exit("resource busy")
if "create" in step:
    image = said[-1] if not script else said[1].split('"')[1]
    open(image, "x").close()
"""


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
        """Return which steps were taken, in order."""
        found = []
        for said in self.asked:
            words = " ".join(said)
            found.append(
                next(
                    s for s in ("create vdisk", "hdiutil create", "detach", "attach") if s in words
                )
                .removeprefix("hdiutil ")
                .removesuffix(" vdisk")
            )
        return found

    def image(self, tool: Tool) -> Image:
        point = self.root / "root"
        point.mkdir(exist_ok=True)
        path = self.root / f"image{tool.suffix}"
        return Image(str(path), str(point), next(iter(tool.formats.values())), 1 << 30)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin), prepend=os.pathsep)
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
    assert images.diskpart_detach(image, force=True)[1].splitlines()[-1] == "detach vdisk"
    assert "noerr" not in images.diskpart_detach(image, force=False)[1]


def test_a_path_that_would_end_its_quotes_is_no_part_of_a_script() -> None:
    with pytest.raises(ValueError, match="diskpart script"):
        images.diskpart_create(Image('C:\\"\nclean', "C:\\root", "ntfs", 1 << 30))


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
    if step == "attach":  # it may have been attached and not formatted
        assert stand.steps()[-1] == "detach"


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
