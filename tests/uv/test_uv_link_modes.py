"""uv's own case, with the real uv: what its link modes do to installed files, by evidence.

The change that made uv clone on Linux was tried by hand, on btrfs with the environment on the
same filesystem and on another. Here both are tests, and so is its default mode where nothing can
be cloned. Then uv is held against our model of it, the policy `UV`, on every layout in every mode.
Everything is offline: the wheels are made here, with files large enough to prove a clone by.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import stat
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

from linker import LinkMode, policies
from pytest_linkmode.evidence import Evidence, Proof, evidence
from pytest_linkmode.layouts import Layout
from pytest_linkmode.processes import Completed, run

NAMES = ("alpha", "beta")
"""Two wheels that share a namespace package, as those did that set linkers at odds."""

LARGE = 200_000
"""Bytes of a file that no filesystem keeps inside its metadata."""


def _content(name: str) -> dict[str, tuple[bytes, int]]:
    """Return the files of one wheel that are linked, by path: bytes and permission bits."""
    noise = random.Random(name)
    return {
        f"shared/{name}/__init__.py": (b"", 0o644),
        f"shared/{name}/data.bin": (noise.randbytes(LARGE), 0o644),
        f"shared/{name}/small.py": (b"answer = 42\n", 0o644),
        f"shared/{name}/tool": (b"#!/bin/sh\n#" + noise.randbytes(LARGE).hex().encode(), 0o755),
        f"{name}-1.0.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            0o644,
        ),
        f"{name}-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            0o644,
        ),
    }


CONTENT = {path: entry for name in NAMES for path, entry in _content(name).items()}


def _write_wheel(directory: Path, name: str) -> None:
    record = f"{name}-1.0.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, (content, bits) in _content(name).items():
            entry = zipfile.ZipInfo(path, (2024, 2, 29, 12, 30, 58))
            entry.external_attr = (stat.S_IFREG | bits) << 16
            archive.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            lines.append(f"{path},sha256={digest.rstrip('=')},{len(content)}\n")
        lines.append(f"{record},,\n")
        archive.writestr(record, "".join(lines))


@dataclass(frozen=True)
class Installed:
    """What one `uv pip install` left: its cache, the environment, and what it said."""

    version: str
    cache: Path
    environment: Path
    said: Completed

    def files(self) -> Iterator[tuple[str, Path, Path]]:
        """Yield (path, file in the cache, installed file) for every file that uv links."""
        archives = sorted((self.cache / "archive-v0").iterdir())
        for path in CONTENT:
            (cached,) = [found for archive in archives if (found := archive / path).exists()]
            yield path, cached, self.environment / path

    def evidence(self) -> dict[str, Evidence]:
        """Return what became of every file that uv links."""
        return {path: evidence(cached, file) for path, cached, file in self.files()}

    def __str__(self) -> str:
        lines = [self.version, *(f"  {path}: {found}" for path, found in self.evidence().items())]
        return "\n".join([*lines, self.said.stderr])


class Uv:
    """The uv that the tests depend on, with nothing of this machine in its configuration."""

    def __init__(self, wheels: Path) -> None:
        self._program = os.fsdecode(uv.find_uv_bin())
        self._wheels = wheels
        self.version = run([self._program, "--version"]).stdout.strip()

    def install(self, layout: Layout, mode: LinkMode | None = None) -> Installed:
        """Install the wheels from a cache in the source to an environment in the target."""
        cache, environment = layout.source / "cache", layout.target / "environment"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "RUST_"))
        }
        said = run(
            [
                *(self._program, "pip", "install", "--offline", "--no-index"),
                *("--find-links", str(self._wheels), "--python", sys.executable),
                *("--target", str(environment)),
                *(["--link-mode", mode.value] if mode else []),
                *NAMES,
            ],
            env={
                **inherited,
                "UV_CACHE_DIR": str(cache),
                "UV_NO_CONFIG": "1",
                "UV_PYTHON_DOWNLOADS": "never",
                "NO_COLOR": "1",
            },
        )
        return Installed(self.version, cache, environment, said)


@pytest.fixture(scope="module")
def real_uv(tmp_path_factory: pytest.TempPathFactory) -> Uv:
    wheels = tmp_path_factory.mktemp("wheels")
    for name in NAMES:
        _write_wheel(wheels, name)
    return Uv(wheels)


def assert_whole(installed: Installed) -> None:
    """Assert that every file is there with its bytes and its permission bits."""
    for path, _, file in installed.files():
        content, bits = CONTENT[path]
        assert file.read_bytes() == content, f"{installed}\n{path}"
        assert stat.S_IMODE(file.stat().st_mode) == bits, f"{installed}\n{path}"


def assert_all(installed: Installed, mode: LinkMode, proof: Proof) -> None:
    """Assert that large files are proven to be in `mode` by `proof`, and that no file denies it."""
    found = installed.evidence()
    denied = [path for path, one in found.items() if not one.allows(mode)]
    assert not denied, f"{installed}\nnot {mode}: {denied}"
    large = {path: one for path, one in found.items() if len(CONTENT[path][0]) >= LARGE}
    assert len(large) == 2 * len(NAMES)
    assert {one.mode for one in large.values()} == {mode}, str(installed)
    assert {one.proof for one in large.values()} == {proof}, str(installed)


@pytest.mark.linkmode(layout=["btrfs"])
def test_uv_clones_every_file_from_a_cache_on_the_same_btrfs(
    linkmode_layout: Layout, real_uv: Uv
) -> None:
    installed = real_uv.install(linkmode_layout, LinkMode.CLONE)
    assert_whole(installed)
    assert_all(installed, LinkMode.CLONE, Proof.SHARED_EXTENTS)
    assert "falling back" not in installed.said.stderr, str(installed)


@pytest.mark.linkmode(layout=["btrfs:tmpfs"])
def test_uv_copies_what_it_should_clone_to_another_filesystem(
    linkmode_layout: Layout, real_uv: Uv
) -> None:
    installed = real_uv.install(linkmode_layout, LinkMode.CLONE)
    assert_whole(installed)
    assert_all(installed, LinkMode.COPY, Proof.DIFFERENT_FILESYSTEMS)
    assert "falling back to full copy" in installed.said.stderr, str(installed)


@pytest.mark.linkmode(layout=["tmpfs"])
def test_uv_by_default_hardlinks_where_nothing_can_be_cloned(
    linkmode_layout: Layout, real_uv: Uv
) -> None:
    installed = real_uv.install(linkmode_layout)
    assert_whole(installed)
    assert_all(installed, LinkMode.HARDLINK, Proof.SAME_INODE)
    for path, cached, file in installed.files():
        assert os.path.samefile(cached, file), f"{installed}\n{path}"


@pytest.mark.linkmode(layout=["tmpfs"])
def test_what_uv_writes_itself_is_no_link_of_the_cache(
    linkmode_layout: Layout, real_uv: Uv
) -> None:
    installed = real_uv.install(linkmode_layout, LinkMode.HARDLINK)
    for name in NAMES:
        record = installed.environment / f"{name}-1.0.dist-info" / "RECORD"
        assert record.stat().st_nlink == 1, f"{installed}\n{record}"


@pytest.mark.linkmode(layout=["btrfs", "xfs"])
def test_uv_asked_for_copies_makes_clones_where_the_filesystem_can(
    linkmode_layout: Layout, real_uv: Uv
) -> None:
    # It asks for copy_file_range, and so leaves the choice to the kernel.
    installed = real_uv.install(linkmode_layout, LinkMode.COPY)
    assert_whole(installed)
    assert_all(installed, LinkMode.CLONE, Proof.SHARED_EXTENTS)


def test_uv_does_on_every_layout_what_our_model_of_it_says(
    linkmode_layout: Layout, link_mode: LinkMode, real_uv: Uv
) -> None:
    installed = real_uv.install(linkmode_layout, link_mode)
    assert_whole(installed)
    expected = linkmode_layout.expect(link_mode, policies.UV)
    if expected is LinkMode.COPY and "reflink" in linkmode_layout.can:
        expected = LinkMode.CLONE  # as above
    found = installed.evidence()
    denied = [path for path, one in found.items() if not one.allows(expected)]
    assert not denied, f"{installed}\nnot {expected}: {denied}"
    proven = [path for path, one in found.items() if one.mode is expected]
    assert proven, f"{installed}\nnone is proven to be {expected}"
