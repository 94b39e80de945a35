"""The same `stat` in every mode: permission bits, whatever the umask, and modification times."""

from __future__ import annotations

import os
import stat

import pytest

from pytest_linkmode.assertions import MTIME, PERMISSIONS, assert_linked
from pytest_linkmode.conformance.cases import Case, names


def permissions(path: os.PathLike[str]) -> str:
    return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"


@pytest.mark.usefixtures("hostile_umask")
def test_permission_bits_are_those_of_the_source_whatever_the_umask(sample: Case) -> None:
    sample.link()
    assert_linked(sample.source, sample.target, sample.expected, stat=[PERMISSIONS])


def test_executables_stay_executable(sample: Case) -> None:
    sample.link()
    wanted = {name: permissions(sample.source / name) for name in ("bin/tool", "package/native.so")}
    assert wanted == {"bin/tool": "0755", "package/native.so": "0755"}
    assert {name: permissions(sample.target / name) for name in wanted} == wanted


def test_modification_times_are_those_of_the_source(sample: Case) -> None:
    sample.link()
    assert_linked(sample.source, sample.target, sample.expected, stat=[MTIME])


def test_new_directories_look_like_those_of_the_source(sample: Case) -> None:
    sample.link()
    directories = [name for name in names(sample.source) if os.path.isdir(sample.source / name)]
    directories = [name for name in directories if not (sample.source / name).is_symlink()]
    looks = {
        name: (permissions(sample.source / name), (sample.source / name).stat().st_mtime_ns)
        for name in directories
    }
    assert {"locked", "empty", "hollow/in/and/in", "group"} <= looks.keys()
    assert looks == {
        name: (permissions(sample.target / name), (sample.target / name).stat().st_mtime_ns)
        for name in directories
    }
