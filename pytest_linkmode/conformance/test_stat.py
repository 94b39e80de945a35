"""The same `stat` in every mode: permission bits, whatever the umask, and modification times."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

import pytest

from linker.policy import Promise
from pytest_linkmode.assertions import MTIME, PERMISSIONS
from pytest_linkmode.capabilities import FIXED_PERMISSIONS
from pytest_linkmode.conformance.cases import Case, names


def permissions(path: os.PathLike[str]) -> str:
    return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"


@pytest.mark.usefixtures("hostile_umask")
def test_permission_bits_are_those_of_the_source_whatever_the_umask(sample: Case) -> None:
    sample.needs(Promise.FILE_PERMISSIONS)
    sample.link()
    sample.check(stat=[PERMISSIONS])


def look(path: os.PathLike[str], kept: Collection[str]) -> dict[str, object]:
    whole = {PERMISSIONS: permissions(path), MTIME: os.stat(path).st_mtime_ns}
    return {word: whole[word] for word in kept}


def test_executables_stay_executable(sample: Case) -> None:
    if FIXED_PERMISSIONS in sample.layout.can:
        pytest.skip(f"not applicable: permission bits are not kept in {sample.layout.name}")
    sample.link()
    wanted = {name: permissions(sample.source / name) for name in ("bin/tool", "package/native.so")}
    if set(wanted.values()) == {"0777"}:
        pytest.skip(f"not applicable: permission bits are not kept in {sample.layout.name}")
    assert set(wanted.values()) == {"0755"}
    assert {name: permissions(sample.target / name) for name in wanted} == wanted


def test_modification_times_are_those_of_the_source(sample: Case) -> None:
    sample.needs(Promise.FILE_TIMES)
    sample.link()
    sample.check(stat=[MTIME])


def test_new_directories_look_like_those_of_the_source(sample: Case) -> None:
    sample.needs(Promise.DIRECTORY_PERMISSIONS, Promise.DIRECTORY_TIMES)
    sample.link()
    directories = [name for name in names(sample.source) if os.path.isdir(sample.source / name)]
    directories = [name for name in directories if not (sample.source / name).is_symlink()]
    directories = [name for name in directories if name not in sample.layout.existed]
    assert {"locked", "empty", "hollow/in/and/in", "group"} <= set(directories)
    looks = {name: look(sample.source / name, sample.directory_stat) for name in directories}
    assert looks == {
        name: look(sample.target / name, sample.directory_stat) for name in directories
    }
