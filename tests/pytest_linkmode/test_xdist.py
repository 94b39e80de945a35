"""With pytest-xdist: filesystems per worker, one decision, one merged summary."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from pytest_linkmode import namespaces
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES, OTHER

pytest.importorskip("xdist")

Run = Callable[..., pytest.RunResult]


def test_what_workers_found_is_merged_into_one_report(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from linker import LinkMode, link_tree

        @pytest.mark.parametrize("number", range(4))
        def test_link(linkmode_layout, number):
            for name in "ab":
                (linkmode_layout.source / name).write_bytes(name.encode() * 5000)
            link_tree(linkmode_layout.source, linkmode_layout.target, mode=LinkMode.HARDLINK)

        @pytest.mark.linkmode(fs=["ext4"])
        def test_elsewhere(linkmode_layout): ...

        @pytest.mark.skip(reason="not today")
        def test_skipped(linkmode_fs): ...
        """
    )
    result = inside(*DIRECTORIES, "-n2", "--linkmode-report=r.json", "--linkmode-fail-under=1")
    result.assert_outcomes(passed=8, skipped=2)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "passed    tests",
            "disk      4, 1 skipped",
            f"{ACROSS}  4",
            f"2 skipped on disk, {OTHER}: not today",
            "1 deselected: its marker leaves no layout of the selection",
            "  linux/hardlink/hardlink/cross-device -> copy  real, 4 tests",
        ]
    )
    assert str(result.stdout).count("= linkmode =") == 1
    (run,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    assert run["outcomes"] == {"passed": 8, "skipped": 2}
    assert len(run["deselected"]) == 1
    assert {test["process"] for test in run["tests"]} <= {"gw0", "gw1"}
    assert run["other_machines"] == {}


def test_guards_hold_for_all_workers_together(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.xfail
        def test_it(linkmode_layout, number):
            assert False
        """
    )
    result = inside(*DIRECTORIES, "--linkmode-require=cross-device", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "--linkmode-layout=*: no test ran on what was asked for (8 xfailed)",
            "--linkmode-require=cross-device: no test was executed on it (*)",
        ]
    )


def test_what_a_worker_found_survives_its_crash(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        import signal
        from linker import LinkMode, link_tree

        def test_1_link(linkmode_layout):
            for name in "ab":
                (linkmode_layout.source / name).write_bytes(name.encode() * 5000)
            link_tree(linkmode_layout.source, linkmode_layout.target, mode=LinkMode.HARDLINK)

        def test_2_dies(linkmode_layout):
            os.kill(os.getpid(), signal.SIGKILL)

        def test_3_goes_on(linkmode_layout): ...
        """
    )
    result = inside(*DIRECTORIES, "--linkmode-require=cross-device", "-n1", "-p", "no:randomly")
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(
        [
            "disk      2, 1 crashed",
            f"{ACROSS}  2, 1 crashed",
            "  linux/hardlink/hardlink/cross-device -> copy  real, 1 test",
        ]
    )
    result.stdout.no_fnmatch_line("--linkmode-require*")


DYING = """
    import contextlib
    import os
    import signal
    import time

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def child():
        if os.fork() == 0:
            open("born", "w").close()
            for each in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink("/proc/self/fd/" + each).startswith("pipe:"):
                        os.close(int(each))  # or nobody would know that the worker is dead
            for _ in range(3000):
                if os.path.exists("grown"):
                    break
                time.sleep(0.01)
            os._exit(0)
        while not os.path.exists("born"):
            time.sleep(0.01)
        die()

    def test_it(linkmode_fs):
        root = str(linkmode_fs.path.parent)
        with open("root", "w") as file:
            print(root, os.path.ismount(root), file=file)
        {act}
"""


def crash(
    outside: Run, pytester: pytest.Pytester, *options: str, act: str = "die()"
) -> tuple[str, pytest.RunResult]:
    """Let a worker die, in a test if nothing else is said, in the host's namespace; return where
    its filesystem was.
    """
    pytester.makepyfile(DYING.format(act=act))
    result = outside("--linkmode-namespace=host", "-n1", "--max-worker-restart=0", *options)
    root, mounted = (pytester.path / "root").read_text().split()
    assert mounted == str("btrfs" in options[0])
    return root, result


def notes(own_tmp: str) -> set[pathlib.Path]:
    return set(pathlib.Path(own_tmp).rglob("*.steps"))


def test_what_a_crashed_worker_left_in_a_directory_is_removed(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    root, result = crash(outside, pytester, *DIRECTORIES)
    assert not os.path.exists(root)
    assert notes(own_tmp) == set()
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*linkmode clean*")


def test_what_a_worker_left_that_died_when_all_was_done_is_removed_too(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makeconftest(
        """
        import os
        import signal

        def pytest_unconfigure(config):
            if hasattr(config, "workerinput"):
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root, result = crash(outside, pytester, *DIRECTORIES, act="pass")
    result.assert_outcomes(passed=2)
    assert not os.path.exists(root)
    assert notes(own_tmp) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for what is open in /proc")
def test_what_a_child_of_a_dead_worker_may_still_use_is_left_and_told(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    root, result = crash(outside, pytester, *DIRECTORIES, act="child()")
    assert os.path.isdir(root)
    result.stdout.fnmatch_lines([f"linkmode: a worker left {root}: *lives*linkmode clean)"])
    (pytester.path / "grown").touch()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts as root")
def test_what_a_crashed_worker_left_mounted_is_undone(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    root, _ = crash(outside, pytester, "--linkmode-fs=btrfs")
    assert not os.path.exists(root)
    assert notes(own_tmp) == set()


def test_what_is_to_be_kept_or_is_not_of_this_run_stays(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    root, _ = crash(outside, pytester, *DIRECTORIES, "--linkmode-keep")
    kept = notes(own_tmp)
    assert os.path.isdir(root)
    crash(outside, pytester, *DIRECTORIES)
    assert os.path.isdir(root), "another run's remains are for `linkmode clean`"
    assert notes(own_tmp) == kept
    assert pytester.run(sys.executable, "-m", "pytest_linkmode", "clean").ret == 0
    assert not os.path.exists(root)
    assert notes(own_tmp) == set()


def test_a_crash_in_a_project_that_uses_nothing_of_ours_is_not_made_worse(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    trap = pathlib.Path(own_tmp, f"pytest-linkmode-registry-of-{namespaces.user_name()}")
    trap.touch()
    pytester.makepyfile("import os\ndef test_it(): os._exit(1)")
    pytester.makeconftest("def pytest_unconfigure(): print('of the project')")
    result = outside("-n1", "--max-worker-restart=0", "-s")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["of the project"])
    assert "linkmode: " not in str(result.stdout) + str(result.stderr)
    assert "Traceback" not in str(result.stderr)
    trap.unlink()


@pytest.mark.usefixtures("mounting")
def test_each_worker_has_filesystems_of_its_own_in_the_controllers_namespace(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_it(linkmode_fs, number, worker_id, tmp_path_factory):
            said = tmp_path_factory.getbasetemp().parent / f"{worker_id}.{number}"
            root = linkmode_fs.path.parent
            assert os.path.ismount(root)
            said.write_text(f"{os.readlink('/proc/self/ns/mnt')} {root}")
        """
    )
    result = outside("--basetemp=base", "--linkmode-fs=tmpfs", "-n2", "--dist=each")
    result.assert_outcomes(passed=12)
    said: dict[str, set[tuple[str, ...]]] = {}
    for path in (pytester.path / "base").glob("gw?.?"):
        said.setdefault(path.name[:3], set()).add(tuple(path.read_text().split()))
    assert [len(answers) for answers in said.values()] == [1, 1]
    ((one, first),), ((two, second),) = said.values()
    assert one == two
    assert first != second
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        assert own_tmp not in lines.read()


def test_what_the_controller_could_not_get_is_skipped_by_workers_without_another_try(
    inside: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the controller, this process, lacks the tools.
    monkeypatch.setattr("pytest_linkmode.processes.which", lambda tool: None)
    pytester.makepyfile("def test_it(linkmode_fs): ...")
    result = inside(f"--linkmode-fs=btrfs?,{OTHER}", "--linkmode-namespace=host", "-n1", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * btrfs cannot be had here | checked: *mkfs.btrfs*"])


def test_a_usage_error_is_the_controllers_alone(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_fs): ...")
    result = inside("--linkmode-fs=btrsf", "--linkmode-namespace=host", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*did you mean 'btrfs'*"])
    assert "gw0" not in str(result.stdout)
