"""What uv does to files when it installs a wheel: a cache in one place, an environment in another.

Nothing here believes what uv says of itself: the disk is read.
"""

import base64
import hashlib
import os
import random
import shutil
import sys
import zipfile

import pytest

from linker import LinkMode
from pytest_linkmode import evidence

FILES = {
    "package/__init__.py": b"",
    "package/data.bin": random.Random(1).randbytes(200_000),
    "package/more.bin": random.Random(2).randbytes(200_000),
    "package-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: package\nVersion: 1.0\n",
    "package-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheels")
    record = "package-1.0.dist-info/RECORD"
    with zipfile.ZipFile(directory / "package-1.0-py3-none-any.whl", "w") as wheel:
        lines = []
        for path, content in FILES.items():
            wheel.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            lines.append(f"{path},sha256={digest.rstrip('=')},{len(content)}\n")
        wheel.writestr(record, "".join([*lines, f"{record},,\n"]))
    return directory


@pytest.fixture
def install(wheels, linkmode_faults):
    """Run uv from one directory to another; `faults` are calls of it that are to fail."""

    def run(source, target, mode, faults=()):
        uv = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
        return linkmode_faults.run(
            [
                *(uv, "pip", "install", "--offline", "--no-index", "--find-links", wheels),
                *("--python", sys.executable, "--target", target, "--link-mode", mode, "package"),
            ],
            faults=faults,
            log=(),
            env={**os.environ, "UV_CACHE_DIR": str(source), "UV_NO_CONFIG": "1"},
        )

    return run


def files(source, target):
    """Yield what the disk says of each file: of the cache against the environment."""
    (cached,) = (source / "archive-v0").iterdir()
    for path in FILES:
        yield path, evidence(cached / path, target / path)


def test_uv_does_in_every_mode_what_is_known_of_it(install, linkmode_layout, link_mode):
    source, target = linkmode_layout.source, linkmode_layout.target
    assert install(source, target, link_mode.value).returncode == 0
    expected = linkmode_layout.expect(link_mode)  # by the policy uv, see pyproject.toml
    if expected is LinkMode.COPY and "reflink" in linkmode_layout.can:
        expected = LinkMode.CLONE  # it copies by copy_file_range, which the kernel makes a clone
    for path, found in files(source, target):
        assert found.allows(expected), (path, found)
        assert (target / path).read_bytes() == FILES[path]


@pytest.mark.linkmode(layout=["btrfs", "xfs", "tmpfs"])
def test_uv_copies_where_hardlinks_are_not_permitted(install, linkmode_layout):
    source, target = linkmode_layout.source, linkmode_layout.target
    run = install(source, target, "hardlink", faults=["hardlink:EPERM"])
    assert run.returncode == 0
    assert "falling back" in run.stderr
    assert {found.mode for _, found in files(source, target)} <= {
        LinkMode.COPY,
        LinkMode.CLONE,
        None,  # empty files: there is nothing by which to tell
    }
