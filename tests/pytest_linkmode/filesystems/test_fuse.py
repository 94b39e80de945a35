"""Filesystems that daemons serve: what they are, and that no daemon outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import kernel, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, fuse, keeper, missing, opened
from pytest_linkmode.namespaces import Place
from tests.patience import eventually

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]

NAMES = list(fuse.DAEMONS)


def daemons_of(directory: str | Path) -> list[str]:
    """Return the programs that run with a path below a directory among their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        if any(word.startswith(os.fsencode(directory) + b"/") for word in words[1:]):
            found.append(os.fsdecode(words[0]))
    return found


@needs_root
@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_ends_with_its_context(place: Place, name: str) -> None:
    before, there = kernel.mounts(), os.listdir(place.path)
    with opened(name, place, Settings(provider="fuse")) as made:
        assert made.provider == "fuse"
        Path(made.path, "file").write_text("x")
        above = os.path.dirname(made.path)
        assert len(daemons_of(above)) == 2, "the daemon and its keeper"
        mount = kernel.mount_at(made.path)
        assert mount is not None
        assert mount.fstype.startswith("fuse")
    assert daemons_of(above) == []
    assert kernel.mounts() == before
    assert os.listdir(place.path) == there


@needs_root
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_of_the_run_leaves_no_daemon(script: Script, tmp_path: Path, name: str) -> None:
    script(
        """
        name, = arguments
        def victim():
            place = namespaces.enter_private()
            context = opened(name, place, Settings(provider="fuse"))
            made = context.__enter__()
            with open(made.path + "/file", "w") as file:
                file.write("x" * 100000)
                die()
        assert in_child(victim) == -signal.SIGKILL
        """,
        name,
    )
    eventually(lambda: daemons_of(tmp_path) == [])


@needs_root
@pytest.mark.parametrize("named", [(), ("-o", "subtype=newer")], ids=["fuse", "fuse.newer"])
def test_a_kill_on_the_host_leaves_no_daemon_and_a_mount_that_clean_removes(
    script: Script, tmp_path: Path, named: tuple[str, ...]
) -> None:
    script(
        """
        import dataclasses
        from pytest_linkmode.filesystems import fuse
        bindfs = fuse.DAEMONS["bindfs"]
        command = (*bindfs.command, *arguments)
        fuse.DAEMONS = {"bindfs": dataclasses.replace(bindfs, command=command)}
        own_host()
        def victim():
            context = opened("bindfs", namespaces.find_place("host"), Settings())
            context.__enter__()
            die()
        assert in_child(victim) == -signal.SIGKILL
        def left():
            here = tempfile.gettempdir()
            return [entry for entry in kernel.mounts() if entry.target.startswith(here)]
        assert len(left()) == 3, left()
        assert not arguments or any(entry.fstype.startswith("fuse.") for entry in left())
        found = registry.clean()
        assert all(finding.action == "undone" for finding in found), found
        assert left() == [], left()
        assert os.listdir(namespaces.stable_directory()) == []
        """,
        *named,
    )
    eventually(lambda: daemons_of(tmp_path) == [])


@needs_root
def test_a_daemon_holds_no_other_mount_of_the_run(
    script: Script, tmp_path: Path, loops_of: Callable[[str | Path], list[str]]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    script(
        """
        place = namespaces.enter_private()
        with opened("ext4", place, Settings(image_dir=arguments[0])) as ext4:
            daemon = opened("bindfs", place, Settings())
            daemon.__enter__()
        # A namespace of the daemon's that still had it would keep the device busy.
        def attached():
            import glob
            found = []
            for path in glob.glob("/sys/block/loop*/loop/backing_file"):
                with open(path) as lines:
                    found += [path] if lines.read().startswith(arguments[0]) else []
            return found
        deadline = time.monotonic() + 60
        while attached() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert attached() == [], attached()
        daemon.__exit__(None, None, None)
        """,
        str(images),
    )
    assert loops_of(images) == []


@needs_root
def test_a_daemon_that_is_killed_leaves_a_mount_that_can_be_undone(place: Place) -> None:
    before = kernel.mounts()
    with opened("bindfs", place, Settings()) as made:
        above = os.path.dirname(made.path)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            words = entry.read_bytes().split(b"\0") if entry.exists() else []
            if words and words[0].endswith(b"/bindfs") and os.fsencode(made.path) in words:
                os.kill(int(entry.parts[2]), signal.SIGKILL)
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.listdir(made.path)
    assert daemons_of(above) == []
    assert kernel.mounts() == before


@needs_root
def test_a_daemon_that_fails_is_unavailable_with_what_it_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = fuse.Daemon(("sh", "-c", "echo it cannot be done >&2; exit 3", "{source}", "{point}"))
    monkeypatch.setattr(fuse, "DAEMONS", {"ntfs": broken})
    before = kernel.mounts()
    with (
        pytest.raises(Unavailable, match="it cannot be done"),
        opened("ntfs", place, Settings()),
    ):
        pass
    assert kernel.mounts() == before


def test_a_missing_daemon_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = processes.which
    monkeypatch.setattr(
        processes, "which", lambda tool: "/bin/true" if tool == "apt" else real("no-such-tool")
    )
    monkeypatch.setattr(kernel, "may_mount", lambda: True)
    refusal = missing(FILESYSTEMS["ntfs"], Settings())
    assert refusal is not None
    assert any(line.startswith("lowntfs-3g: neither in PATH") for line in refusal.checked)
    assert "apt-get install ntfs-3g" in refusal.mends


def test_without_the_device_there_is_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "DEVICE", "/nonexistent/fuse")
    refusal = fuse.Fuse().missing(FILESYSTEMS["bindfs"], Settings())
    assert refusal is not None
    assert "/nonexistent/fuse: not there" in refusal.checked


def test_the_keeper_needs_nothing_but_python() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", keeper.__file__],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, "it was given no arguments"
    assert "IndexError" in done.stderr
    assert "pytest_linkmode" not in done.stderr.replace(keeper.__file__, "")
