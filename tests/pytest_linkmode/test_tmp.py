"""`--linkmode-tmp` puts `tmp_path` of any suite, unchanged, on a filesystem of ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from tests.patience import SECONDS

Run = Callable[..., pytest.RunResult]

SUITE = """
    import os

    def kind_of(path):
        mounts = {}
        with open("/proc/self/mounts") as lines:
            for line in lines:
                _, target, kind, *_ = line.split()
                mounts[target] = kind
        while str(path) not in mounts:
            path = path.parent
        return mounts[str(path)]

    def test_one(tmp_path):
        assert kind_of(tmp_path) == "tmpfs"
        assert not os.path.ismount(tmp_path.parent)

    def test_two(tmp_path, tmp_path_factory, tmpdir):
        assert kind_of(tmp_path_factory.mktemp("more")) == "tmpfs"

    def test_three(pytester):
        assert kind_of(pytester.path) == "tmpfs"
"""


@pytest.mark.usefixtures("mounting")
@pytest.mark.parametrize(
    "workers",
    [(), ("-n2",), ("--tx=2*popen",)],  # the last, without --dist, starts no worker
    ids=["serial", "workers", "not distributed"],
)
def test_tmp_path_of_an_unchanged_suite_lies_there(
    workers: tuple[str, ...], pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makeconftest("pytest_plugins = ['pytester']")
    pytester.makepyfile(SUITE)
    # Not by `outside`: pytester gives its runs a --basetemp.
    command = ("-m", "pytest", "-p", "no:cacheprovider", "--linkmode-tmp=tmpfs", *workers)
    result = pytester.run(sys.executable, *command, timeout=SECONDS)
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.OK
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    guests = "" if os.geteuid() == 0 else "(; in a guest .*)?"  # which an ordinary user may need
    result.stdout.re_match_lines(
        [rf"linkmode: --linkmode-tmp=tmpfs \(private namespace, {who}\){guests}$"]
    )
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        assert own_tmp not in lines.read()


@pytest.mark.usefixtures("mounting")
def test_a_btrfs_serves_as_well(pytester: pytest.Pytester, own_tmp: str) -> None:
    from pytest_linkmode.processes import which

    if which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is missing")
    pytester.makeconftest("pytest_plugins = ['pytester']")
    pytester.makepyfile(SUITE.replace('"tmpfs"', '"btrfs"'))
    result = pytester.run(sys.executable, "-m", "pytest", "--linkmode-tmp=btrfs", timeout=SECONDS)
    result.assert_outcomes(passed=3)


def test_a_basetemp_beside_it_contradicts(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("raise SystemExit('collected')")
    result = inside("--linkmode-tmp=shm", "--linkmode-namespace=host", "--basetemp=base")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --linkmode-tmp=shm and --basetemp=base: both say where *"])
