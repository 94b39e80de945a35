"""Fresh filesystems are copies of formatted ones: equal, private, and gone without a trace."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import kernel, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import FILESYSTEMS, loop, opened, templates
from pytest_linkmode.layouts import Workshop, parse
from pytest_linkmode.namespaces import Place
from tests.patience import SECONDS

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Loops = Callable[[str | Path], list[str]]

COPIED = ("btrfs", "xfs", "xfs-noreflink", "ext4", "ext2")


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Every program that is run from now on, with no template made yet."""
    monkeypatch.setattr(templates, "_templates", {})
    real = processes.run
    calls: list[tuple[str, ...]] = []

    def run(arguments: Any, **more: Any) -> processes.Completed:
        calls.append(tuple(arguments))
        return real(arguments, **more)

    monkeypatch.setattr(processes, "run", run)
    return calls


@needs_root
@pytest.mark.parametrize("name", COPIED)
def test_a_filesystem_is_formatted_once_and_copied_ever_after(
    place: Place, formats: list[tuple[str, ...]], name: str
) -> None:
    with opened(name, place, Settings()) as first, opened(name, place, Settings()) as second:
        assert [call[0] for call in formats] == [FILESYSTEMS[name].mkfs[0]]
        Path(first.path, "mine").write_text("first")
        Path(second.path, "mine").write_text("second")
        assert Path(first.path, "mine").read_text() == "first"
        assert os.stat(first.path).st_dev != os.stat(second.path).st_dev
    with opened(name, place, Settings()) as third:
        assert not Path(third.path, "mine").exists(), "what was written is in no template"
    with opened(name, place, Settings(image_size=3 << 30)):
        assert len(formats) == 2, "another size is another template"


@needs_root
def test_a_kind_that_does_not_say_that_it_can_be_copied_is_formatted_each_time(
    place: Place, formats: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shy = dataclasses.replace(FILESYSTEMS["ext4"], name="shy", copies=False)
    monkeypatch.setitem(FILESYSTEMS, "shy", shy)
    for _ in range(3):
        with opened("shy", place, Settings()):
            pass
    assert len(formats) == 3


@needs_root
def test_where_the_kernel_cannot_tell_copies_apart_they_get_ids_of_their_own(
    place: Place, formats: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "release", lambda: (6, 1))
    settings = Settings()

    def identity(number: int) -> str:
        done = processes.run(("btrfs", "inspect-internal", "dump-super", images[number].path))
        lines = (line.split() for line in done.stdout.splitlines())
        return next(words[1] for words in lines if words and words[0] == "fsid")

    images: list[loop.Image] = []
    with (
        loop.image(place.path, settings.image_size) as first,
        loop.image(place.path, settings.image_size) as second,
    ):
        images += (first, second)
        for image in images:
            templates.format_image(FILESYSTEMS["btrfs"], image.descriptor, image.path)
        assert [call[0] for call in formats] == ["mkfs.btrfs", "btrfstune"]
        assert identity(0) != identity(1)


@needs_root
def test_a_template_holds_next_to_nothing(place: Place, formats: list[tuple[str, ...]]) -> None:
    for name in COPIED:
        with opened(name, place, Settings()):
            pass
    for template in templates._templates.values():
        # Of the 64 MiB that mkfs.xfs writes for a log, one block is not zero.
        assert sum(len(data) for _, data in template.pieces) < 2 << 20


@needs_root
def test_a_template_that_could_not_be_made_is_tried_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_templates", {})
    broken = dataclasses.replace(FILESYSTEMS["ext4"], mkfs=("false",))
    with loop.image(place.path, 8 << 20) as image:
        for _ in range(2):
            with pytest.raises(processes.CommandFailed):
                templates.format_image(broken, image.descriptor, image.path)


@needs_root
def test_a_hundred_from_eight_threads_do_not_collide_and_none_is_left(
    place: Place, tmp_path: Path, loops_of: Loops
) -> None:
    names = ("btrfs", "xfs", "ext4")
    settings = Settings(image_dir=str(tmp_path))
    before, there = kernel.mounts(), sorted(os.listdir(place.path))
    todo = iter(range(104))
    lock, together = threading.Lock(), threading.Barrier(8, timeout=SECONDS)
    seen: list[int] = []
    errors: list[str] = []

    def work(number: int) -> None:
        name = names[number % len(names)]
        with opened(name, place, settings) as made:
            mine = Path(made.path, "mine")
            mine.write_text(str(number))
            if number < 8:
                together.wait()  # all eight exist at once
            assert os.listdir(made.path) in (
                ["mine"],
                ["lost+found", "mine"],
                ["mine", "lost+found"],
            )
            assert mine.read_text() == str(number)
            seen.append(number)

    def loop_over() -> None:
        try:
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                work(number)
        finally:
            if sys.exc_info()[1] is not None:
                errors.append(threading.current_thread().name)
                together.abort()

    threads = [threading.Thread(target=loop_over) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(seen) == list(range(104))
    assert kernel.mounts() == before
    assert sorted(os.listdir(place.path)) == there
    assert loops_of(tmp_path) == []
    assert os.listdir(tmp_path) == []


@needs_root
def test_every_workshop_has_filesystems_that_no_other_has(place: Place) -> None:
    first, second = Workshop(place, Settings()), Workshop(place, Settings())
    try:
        ours, theirs = (each.layout(parse("btrfs")) for each in (first, second))
        assert ours.source.stat().st_dev != theirs.source.stat().st_dev
        (ours.source / "file").write_text("x")
        assert list(theirs.source.iterdir()) == []
    finally:
        first.close()
        second.close()
